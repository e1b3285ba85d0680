//! The screen as characters.

use clap::ValueEnum;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Clear, Paragraph, Row, Table};

use super::model::{Tunnel, View};
use super::number::{age, bits, count};
use super::screen::Screen;

/// Reasons for drops, workers and alarms that get a line each; the rest is counted.
const MOST: usize = 4;
const KEYS: &str =
    "q quit  s sort  r reverse  / filter  arrows, PgUp, PgDn, Home, End scroll  p pause  ? help";
pub(super) const HEADING: [&str; 10] =
    ["TUNNEL", "PEER", "STATE", "AGE", "SEG", "IN pkt/s", "IN bit/s", "OUT pkt/s", "OUT bit/s", "REFUSED/s"];
const WIDTHS: [u16; 10] = [28, 24, 11, 7, 4, 9, 9, 9, 9, 9];
const HELP: &str = "\
 s         order: rate, packets, drops, name, peer, age, state
 r         the other way round
 / or f    only tunnels with a text in name, peer, address or state;
           Enter keeps it, Esc forgets it
 up, down, PgUp, PgDn, Home, End, j, k, g, G   scroll
 p         hold what is shown; again: go on
 q         quit

 REFUSED/s are packets that SAs dropped as replayed, too old or not authentic.
 `dpctl counters` has all drops, `dpctl ike show TUNNEL` all of a tunnel.";

/// Draws all, and notes how many tunnels fit.
pub(super) fn draw(screen: &mut Screen, frame: &mut Frame<'_>) {
    let view = &screen.view;
    let top = head(view, frame.area().width);
    let areas =
        Layout::vertical([Constraint::Length(top.len() as u16), Constraint::Min(2), Constraint::Length(1)]);
    let [above, middle, below] = areas.areas(frame.area());
    frame.render_widget(Paragraph::new(Text::from(top)), above);
    let tunnels = screen.choice.of(view);
    screen.page = usize::from(middle.height).saturating_sub(1);
    screen.first = screen.first.min(tunnels.len().saturating_sub(screen.page));
    let shown = tunnels.iter().skip(screen.first).take(screen.page);
    let rows = shown.map(|tunnel| Row::new(cells(tunnel)));
    let heading = Row::new(HEADING).style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(Table::new(rows, WIDTHS.map(Constraint::Length)).header(heading), middle);
    frame.render_widget(Paragraph::new(foot(screen, tunnels.len())), below);
    if screen.help {
        help(frame, middle);
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let height = area.height.min(HELP.lines().count() as u16);
    let area = Rect { height, ..area };
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP), area);
}

/// A tunnel's columns.
pub(super) fn cells(tunnel: &Tunnel) -> [String; 10] {
    let traffic = &tunnel.traffic;
    [
        printable(&tunnel.name),
        printable(&tunnel.peer),
        printable(&tunnel.state),
        tunnel.age.map_or_else(|| "-".to_owned(), age),
        tunnel.segment.to_string(),
        count(traffic.inbound_packets),
        bits(traffic.inbound_bits),
        count(traffic.outbound_packets),
        bits(traffic.outbound_bits),
        count(traffic.refused),
    ]
}

/// A peer chooses its identity: it must not command the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn head(view: &View, width: u16) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let strong = Style::new().add_modifier(Modifier::BOLD);
    let up = view.uptime_seconds.map(|seconds| format!(", up {}", age(seconds))).unwrap_or_default();
    lines.push(Line::styled(format!("{}{up}", printable(&view.gateway)), strong));
    lines.extend(sentences(view).into_iter().map(|text| {
        let text: String = printable(&text).chars().take(usize::from(width)).collect();
        Line::styled(text, Style::new().add_modifier(Modifier::REVERSED))
    }));
    lines.extend(summary(view).into_iter().map(Line::raw));
    lines
}

fn sentences(view: &View) -> Vec<String> {
    let notes = view.notes.iter().map(|note| format!("NOTE: {note}"));
    let all: Vec<String> = notes.chain(view.alarms.iter().map(|alarm| format!("ALARM: {alarm}"))).collect();
    let hidden = all.len().saturating_sub(MOST);
    let more = (hidden > 0).then(|| format!("and {hidden} more: `dpctl status`"));
    all.into_iter().take(MOST).chain(more).collect()
}

/// The gateway in a few lines.
pub(super) fn summary(view: &View) -> Vec<String> {
    let total = &view.total;
    let mut lines = vec![format!(
        "traffic: in {} pkt/s, {}bit/s; out {} pkt/s, {}bit/s; {} tunnels",
        count(total.inbound_packets),
        bits(total.inbound_bits),
        count(total.outbound_packets),
        bits(total.outbound_bits),
        view.tunnels.len()
    )];
    if !view.segments_owned.is_empty() {
        let (ours, others) = (&view.segments_owned, &view.segments_elsewhere);
        lines.push(format!("segments: {ours} owned here, {others} not"));
    }
    let workers = view.workers.iter().take(2 * MOST).map(|worker| {
        let (opened, sealed, dropped) = (count(worker.opened), count(worker.sealed), count(worker.dropped));
        let (index, core, share) = (worker.index, worker.core, worker.share);
        format!("worker {index} on core {core}: {opened} opened/s, {sealed} sealed/s, {dropped} dropped/s, {share:.0}% of the work")
    });
    lines.extend(workers);
    let drops = view.drops.iter().take(MOST);
    let drops: Vec<String> =
        drops.map(|drop| format!("{} {}/s ({})", drop.name, count(drop.rate), drop.total)).collect();
    lines.push(if drops.is_empty() {
        "drops: none".to_owned()
    } else {
        format!("drops: {}", drops.join(", "))
    });
    lines
}

fn foot(screen: &Screen, fitting: usize) -> Line<'static> {
    if screen.typing {
        return Line::raw(format!("filter: {}_", screen.choice.filter));
    }
    let order = screen.choice.order.to_possible_value().map(|value| value.get_name().to_owned());
    let way = if screen.choice.reversed { ", reversed" } else { "" };
    let last = (screen.first + screen.page).min(fitting);
    let held = if screen.paused { "HELD  " } else { "" };
    let filter = match screen.choice.filter.as_str() {
        "" => String::new(),
        filter => format!("  with \"{filter}\""),
    };
    let place = format!(
        "{}-{last} of {fitting}{filter} by {}{way}",
        fitting.min(screen.first + 1),
        order.unwrap_or_default()
    );
    Line::raw(format!("{held}{place}   {KEYS}"))
}
