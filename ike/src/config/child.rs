//! `[connections.NAME.children.NAME]`.

use std::net::IpAddr;
use std::sync::LazyLock;

use baton_dataplane::config::field::integer;
use baton_dataplane::config::quantity;
use baton_dataplane::config::reader::{Section, Word};
use baton_ike_proto::configuration::{Child, EndAction, Handling, Mode, StartAction};
use baton_ike_proto::proposal::EspProposal;
use baton_ike_proto::selector::{ConfiguredSelector, Sides, TrafficSelector, pairs};

use super::field::{boolean, list, name, refuse, word};
use super::lifetime;

/// Pairs of selectors that an SA of the data plane has room for.
const MAX_PAIRS: usize = baton_sad::Selectors::MAX;
const REPLAY_WINDOWS: std::ops::RangeInclusive<u64> = 64..=4096;

/// Most children take them.
static DEFAULT_PROPOSALS: LazyLock<Vec<EspProposal>> = LazyLock::new(EspProposal::defaults);

pub(super) fn read(own_name: &Word<'_, '_>, section: &Section<'_, '_>) -> Option<Child> {
    let read_name = name(own_name);
    let proposals = esp_proposals(section);
    let mode =
        word(section, "mode", Mode::Tunnel, &[("tunnel", Mode::Tunnel), ("transport", Mode::Transport)]);
    let local = selectors(section, "local_ts", mode);
    let remote = selectors(section, "remote_ts", mode);
    let times = lifetime::of_child(section);
    let bytes = lifetime::bounds(section, ["rekey_bytes", "life_bytes"], &quantity::OCTETS);
    let packets = lifetime::bounds(section, ["rekey_packets", "life_packets"], &quantity::COUNT);
    let (start_action, close_action, dpd_action) = actions(section);
    let replay_window = replay_window(section);
    let priority = integer(section, "priority", 0..=u64::from(u32::MAX), 0);
    let handling = handling(section, mode);
    section.finish();
    let (local, remote, times) = (local?, remote?, times?);
    check_pairs(section, &local, &remote);
    let ([rekey_bytes, life_bytes], [rekey_packets, life_packets]) = (bytes?, packets?);
    Some(Child {
        name: read_name?,
        esp_proposals: proposals?,
        local,
        remote,
        mode: mode?,
        rekey_time: times.rekey,
        life_time: times.end,
        rand_time: times.rand,
        rekey_bytes,
        life_bytes,
        rekey_packets,
        life_packets,
        start_action: start_action?,
        close_action: close_action?,
        dpd_action: dpd_action?,
        replay_window: replay_window?,
        priority: Some(u32::try_from(priority?).ok()?).filter(|priority| *priority != 0),
        handling: handling?,
    })
}

fn esp_proposals(section: &Section<'_, '_>) -> Option<Vec<EspProposal>> {
    let proposals = list(section, "esp_proposals", |word| match EspProposal::parse_list(word.text) {
        Ok(proposals) => Some(proposals),
        Err(error) => {
            refuse(word, error, "docs/CONFIGURATION.md lists the keywords");
            None
        }
    })?;
    let proposals = proposals.concat();
    Some(if proposals.is_empty() { DEFAULT_PROPOSALS.clone() } else { proposals })
}

/// Without any, `dynamic`.
fn selectors(
    section: &Section<'_, '_>,
    key: &'static str,
    mode: Option<Mode>,
) -> Option<Vec<ConfiguredSelector>> {
    let selectors = list(section, key, |word| match word.text.parse::<ConfiguredSelector>() {
        // In transport mode the outer addresses are the inner ones (RFC 4301 section 4.1).
        Ok(selector) if mode == Some(Mode::Transport) && !selector.is_dynamic() => {
            let message = format!("{selector} is not what transport mode protects, the two ends alone");
            word.report(message, "write \"dynamic\", e.g. \"dynamic[udp/1701]\", or mode = \"tunnel\"");
            None
        }
        Ok(selector) => Some(selector),
        Err(error) => {
            refuse(word, error, "write a network as \"10.2.0.0/16\"");
            None
        }
    })?;
    Some(if selectors.is_empty() { vec![ConfiguredSelector::DYNAMIC] } else { selectors })
}

/// There is room for a few pairs in an SA; more would never be negotiated whole.
fn check_pairs(section: &Section<'_, '_>, local: &[ConfiguredSelector], remote: &[ConfiguredSelector]) {
    let families = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])];
    let counted = families.map(|dynamic| {
        let resolve = |side: &[ConfiguredSelector]| -> Vec<TrafficSelector> {
            side.iter().flat_map(|selector| selector.resolve(&[dynamic])).collect()
        };
        pairs(Sides { local: &resolve(local), remote: &resolve(remote) })
    });
    let [fewest, most] = [counted[0].min(counted[1]), counted[0].max(counted[1])];
    if most == 0 {
        let message = "no local selector goes with a remote one";
        let remedy = "give both sides the same IP version and the same protocol";
        section.place().report(section.source(), message, remedy);
    } else if fewest > MAX_PAIRS {
        let message =
            format!("{fewest} pairs of a local and a remote selector; an SA has {MAX_PAIRS} at most");
        section.place().report(
            section.source(),
            message,
            "join neighbouring networks, or write several children",
        );
    }
}

fn actions(section: &Section<'_, '_>) -> (Option<StartAction>, Option<EndAction>, Option<EndAction>) {
    let start = [
        ("none", StartAction::None),
        ("trap", StartAction::Trap),
        ("start", StartAction::Start),
        ("trap|start", StartAction::TrapStart),
    ];
    let close = [("none", EndAction::None), ("trap", EndAction::Trap), ("start", EndAction::Start)];
    let dpd = [
        ("clear", EndAction::None),
        ("none", EndAction::None),
        ("trap", EndAction::Trap),
        ("restart", EndAction::Start),
        ("start", EndAction::Start),
    ];
    (
        word(section, "start_action", StartAction::None, &start),
        word(section, "close_action", EndAction::None, &close),
        word(section, "dpd_action", EndAction::None, &dpd),
    )
}

fn replay_window(section: &Section<'_, '_>) -> Option<u16> {
    let window = integer(section, "replay_window", REPLAY_WINDOWS, 1024)?;
    if window % 64 != 0 {
        let message = format!("{window} is not a multiple of 64");
        section.get("replay_window")?.report(message, format!("choose {}", window.next_multiple_of(64)));
        return None;
    }
    u16::try_from(window).ok()
}

fn handling(section: &Section<'_, '_>, mode: Option<Mode>) -> Option<Handling> {
    let copy_df = boolean(section, "copy_df", true);
    // What comes out of a tunnel keeps its own DSCP (RFC 4301 section 5.1.2), so that `in` and `yes` have no meaning.
    let copy_dscp = word(section, "copy_dscp", true, &[("out", true), ("no", false)]);
    let clamp_mss = boolean(section, "mss_clamp", true);
    let tfc_padding = tfc_padding(section, mode);
    let path_mtu = section.get("path_mtu").map_or(Some(0), |item| item.integer(576..=u64::from(u16::MAX)));
    Some(Handling {
        copy_df: copy_df?,
        copy_dscp: copy_dscp?,
        clamp_mss: clamp_mss?,
        tfc_padding: tfc_padding?,
        path_mtu: u16::try_from(path_mtu?).ok()?,
    })
}

fn tfc_padding(section: &Section<'_, '_>, mode: Option<Mode>) -> Option<u16> {
    let Some(item) = section.get("tfc_padding") else { return Some(0) };
    let padding = if item.is_string() {
        item.word(&[("mtu", u16::MAX)])?
    } else {
        u16::try_from(item.integer(0..=65_534)?).ok()?
    };
    // Only an inner IP header tells the receiver where the padding begins (RFC 4303 section 2.7).
    if padding != 0 && mode == Some(Mode::Transport) {
        item.report("transport mode cannot carry TFC padding", "remove it, or use mode = \"tunnel\"");
    }
    Some(padding)
}
