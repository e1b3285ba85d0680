//! The running gateway: what the main thread, the control socket and the workers share.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use baton_sad::{DataplaneLease, EpochKeeper, Table, TableOptions};
use tracing::{error, info, warn};

use super::caretaker::{Caretaker, Counts, DropAlarms, Present};
use super::endpoints::Endpoints;
use super::error::DaemonError;
use super::filter::Filter;
use super::inside::Inside;
use super::media::{self, Media};
use super::ownership::LeaseFilter;
use super::policies::DynamicPolicies;
use super::threads::Workers;
use super::{assemble, ownership, reverse_path, static_sas};
use crate::capture::Tap;
use crate::config::{Config, InnerInterface, Tunnel};
use crate::control::{Code, Happening, Listeners, Refusal, ReloadReport, Segments};
use crate::counters::WorkerCounters;
use crate::drop_reason::DropReason;
use crate::events::Events;
use crate::io::Side;
use crate::io::af_xdp::{AfXdpIo, IoCounters};
use crate::io::socket::OuterFilter;
use crate::netlink::{LinkEvent, NetlinkFollower, NetlinkOptions};
use crate::next_hop::{NextHops, ResolveRequests};
use crate::prefix::Prefix;
use crate::prohibit::{self, ProhibitError};
use crate::spd::Spd;
use crate::worker::{Rings, monotonic_ns, unix_seconds};
use crate::xdp::XdpError;

/// What all threads of the daemon share.
pub(super) struct Gateway {
    pub(super) table: Arc<Table>,
    pub(super) started: Instant,
    pub(super) spd: Arc<ArcSwap<Spd>>,
    /// Databases that a worker may still look at. It is not to be the one that frees a hundred thousand policies.
    retired: Mutex<Vec<Arc<Spd>>>,
    pub(super) workers: Vec<WorkerShare>,
    pub(super) tap: Arc<Tap>,
    pub(super) events: Arc<Events>,
    pub(super) rings: Arc<Rings>,
    pub(super) listeners: Arc<Listeners>,
    /// What the caretaker did.
    pub(super) counts: Arc<Counts>,
    /// Queues served per side.
    pub(super) queues: [u32; 2],
    /// Changes only under the lock of [`Self::dynamic`], which may take a while; nobody waits to read it.
    config: ArcSwap<Config>,
    dynamic: Mutex<DynamicPolicies>,
    /// What the inner side is, whatever a configuration read since then says.
    inner: InnerInterface,
    inside: Mutex<Inside>,
    filter: Mutex<Filter>,
    pub(super) ownership: Mutex<LeaseFilter>,
    /// Of an outer side on sockets.
    outer_filters: Vec<OuterFilter>,
    next_hops: Arc<ArcSwap<NextHops>>,
    /// A side whose interface went away.
    lost: Arc<OnceLock<Side>>,
    follower: NetlinkFollower,
    keeper: EpochKeeper,
    epoch_alarm: Mutex<Option<String>>,
    static_alarms: Mutex<Vec<String>>,
    route_alarm: Mutex<Option<String>>,
    watch: Mutex<Watch>,
    /// When the slower tasks of [`Self::tick`] were done last.
    last_look: Mutex<Instant>,
    /// One data plane per table, as long as this lives.
    _lease: DataplaneLease,
}

/// What a worker lets others read.
pub(super) struct WorkerShare {
    pub(super) core: usize,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) io: Arc<IoCounters>,
}

/// What is compared from look to look, to tell of changes.
#[derive(Default)]
struct Watch {
    drops: DropAlarms,
    /// Alarms that are not about drops, as they were told.
    alarms: Vec<String>,
    /// Owned segments as they were told.
    owned: Option<[u64; 4]>,
}

/// Starts everything, in the order that [`super`] argues for.
pub(super) fn start(
    config: Config,
    dynamic: DynamicPolicies,
) -> Result<(Gateway, Workers, Caretaker), DaemonError> {
    let protected = dynamic.protected();
    prohibit::install(&protected)?;
    let media = Media::of(&config);
    media::prepare(&media)?;
    require_interfaces(&config)?;
    let table = Arc::new(open_table(&config)?);
    let lease = table.attach()?;
    let keeper =
        EpochKeeper::new(&config.node.state_directory, &config.node.runtime_directory, config.node.id);
    ownership::initialise(&table, &config.segments.owned);
    // Without an epoch nothing can be sent, but packets can be received, and the main thread asks again.
    let epoch_alarm = maintain(&table, &keeper, None);
    let static_alarms = install_static_sas(&table, &config, &Endpoints::load(&endpoints_path(&config)));
    for alarm in &static_alarms {
        error!("{alarm}");
    }

    let spd = Arc::new(ArcSwap::from_pointee(config.spd(dynamic.placed())));
    let next_hops = Arc::new(ArcSwap::from_pointee(NextHops::default()));
    let resolve = Arc::new(ResolveRequests::default());
    let lost = Arc::new(OnceLock::new());
    let follower = follow(&config, &next_hops, &resolve, &lost)?;
    media::divert(&config.inner.interface, &protected)?;
    let inside = &config.inner;
    let inside =
        Inside::take_up(&config.node.runtime_directory, &inside.interface, inside.resolv_conf.clone())?;

    let tap = Arc::new(Tap::default());
    let events = Arc::new(Events::default());
    let rings = Rings::new(config.workers.cores.len() as u16);
    let (listeners, counts) = (Arc::new(Listeners::default()), Arc::new(Counts::default()));
    let caretaker = Caretaker::new(
        Arc::clone(&table),
        Arc::clone(&events),
        Arc::clone(&rings),
        Arc::clone(&listeners),
        Arc::clone(&counts),
    );
    let plan = assemble::Plan {
        policies: dynamic.filter_policies(&config),
        config: &config,
        table: &table,
        spd: &spd,
        next_hops: &next_hops,
        resolve,
        tap: &tap,
        events: &events,
        rings: &rings,
    };
    let (filter, ios) = assemble::open(&plan, &media)?;
    let ownership = LeaseFilter::new(Arc::clone(&table), filter.ownership()?)?;
    let outer_filters = ios.iter().filter_map(AfXdpIo::outer_filter).collect();
    let queues = assemble::queues(&ios);
    let (workers, shares) = assemble::start(&plan, ios)?;
    let gateway = Gateway {
        table,
        started: Instant::now(),
        spd,
        retired: Mutex::default(),
        workers: shares,
        tap,
        events,
        rings,
        listeners,
        counts,
        queues,
        inner: config.inner.interface.clone(),
        inside: Mutex::new(inside),
        config: ArcSwap::from_pointee(config),
        dynamic: Mutex::new(dynamic),
        filter: Mutex::new(filter),
        ownership: Mutex::new(ownership),
        outer_filters,
        next_hops,
        lost,
        follower,
        keeper,
        epoch_alarm: Mutex::new(epoch_alarm),
        static_alarms: Mutex::new(static_alarms),
        route_alarm: Mutex::default(),
        watch: Mutex::default(),
        last_look: Mutex::new(Instant::now()),
        _lease: lease,
    };
    Ok((gateway, workers, caretaker))
}

/// Where the configured places of peers are kept.
pub(super) fn endpoints_path(config: &Config) -> PathBuf {
    config.node.runtime_directory.join("endpoints")
}

/// Installs what the configuration keys; `before` has the places of its peers when that was done last.
fn install_static_sas(table: &Table, config: &Config, before: &Endpoints) -> Vec<String> {
    let alarms = static_sas::install(table, config, before);
    let path = endpoints_path(config);
    if let Err(error) = Endpoints::of(config).save(&path) {
        let path = path.display();
        warn!(%error, %path, "cannot be written; another `remote` takes effect by a reload, not by a restart");
    }
    alarms
}

fn follow(
    config: &Config,
    next_hops: &Arc<ArcSwap<NextHops>>,
    resolve: &Arc<ResolveRequests>,
    lost: &Arc<OnceLock<Side>>,
) -> Result<NetlinkFollower, DaemonError> {
    let options = NetlinkOptions {
        outer: config.outer.interface.clone(),
        inner: config.inner.interface.name().to_owned(),
    };
    let lost = Arc::clone(lost);
    let on_link = move |event| match event {
        LinkEvent::Up(side) => info!(side = side.name(), "the interface is up"),
        LinkEvent::Down(side) => warn!(side = side.name(), "the interface is down"),
        LinkEvent::Removed(side) | LinkEvent::Replaced(side) => {
            let _ = lost.set(side);
        }
    };
    Ok(NetlinkFollower::start(options, Arc::clone(next_hops), Arc::clone(resolve), on_link)?)
}

fn require_interfaces(config: &Config) -> Result<(), DaemonError> {
    for (side, name) in
        [(Side::Outer, config.outer.interface.as_str()), (Side::Inner, config.inner.interface.name())]
    {
        if !Path::new("/sys/class/net").join(name).exists()
            && rustix::net::netdevice::name_to_index(probe_socket()?, name).is_err()
        {
            return Err(DaemonError::NoInterface { side: side.name(), name: name.to_owned() });
        }
    }
    Ok(())
}

fn probe_socket() -> Result<rustix::fd::OwnedFd, DaemonError> {
    rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).map_err(
        |error| DaemonError::Io {
            action: "open a socket for",
            path: PathBuf::from("interface names"),
            source: error.into(),
        },
    )
}

fn open_table(config: &Config) -> Result<Table, DaemonError> {
    let options =
        TableOptions { capacity: config.table.capacity, node: config.node.id, cluster: config.cluster_id() };
    Ok(Table::open_or_create(&config.table_path(), &options)?)
}

impl Gateway {
    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Works on the filter, alone.
    pub(super) fn with_filter<T>(&self, work: impl FnOnce(&mut Filter) -> T) -> T {
        work(&mut lock(&self.filter))
    }

    /// Works on the filter's ownership, alone.
    pub(super) fn with_ownership<T>(&self, work: impl FnOnce(&mut LeaseFilter) -> T) -> T {
        work(&mut lock(&self.ownership))
    }

    /// Works on who this host is inside, alone.
    pub(super) fn with_inside<T>(&self, work: impl FnOnce(&mut Inside) -> T) -> T {
        work(&mut lock(&self.inside))
    }

    /// Works on the dynamic policies and the configuration that they go with, alone.
    pub(super) fn change_policies<T>(&self, work: impl FnOnce(&Config, &mut DynamicPolicies) -> T) -> T {
        let mut dynamic = lock(&self.dynamic);
        work(&self.config(), &mut dynamic)
    }

    /// Leads these prefixes into the TUN device too, and those no longer, if the inner side is one.
    pub(super) fn change_diverted(&self, more: &[Prefix], gone: &[Prefix]) -> Result<(), DaemonError> {
        media::change_diverted(&self.inner, more, gone)
    }

    /// Puts another SPD into force.
    pub(super) fn replace_spd(&self, spd: Spd) {
        let old = self.spd.swap(Arc::new(spd));
        let mut retired = lock(&self.retired);
        retired.push(old);
        retired.retain(|spd| Arc::strong_count(spd) > 1);
    }

    /// Octets of an IP packet at most on one side.
    pub(super) fn mtu(&self, side: Side) -> u16 {
        self.next_hops.load().side(side).mtu
    }

    /// Whether next hops are followed no longer.
    pub(super) fn is_blind(&self) -> bool {
        self.follower.is_finished()
    }

    /// The side whose interface went away: the sockets on it are dead.
    pub(super) fn lost_side(&self) -> Option<Side> {
        self.lost.get().copied()
    }

    /// What wants an operator, as sentences.
    pub(super) fn alarms(&self) -> Vec<String> {
        let mut alarms: Vec<String> = lock(&self.epoch_alarm).iter().cloned().collect();
        alarms.extend(lock(&self.static_alarms).iter().cloned());
        alarms.extend(lock(&self.route_alarm).iter().cloned());
        alarms.extend(lock(&self.inside).report().problems);
        alarms
    }

    /// All alarms, those about drops included.
    pub(super) fn standing_alarms(&self) -> Vec<String> {
        let mut alarms = self.alarms();
        alarms.extend(lock(&self.watch).drops.standing());
        alarms
    }

    /// Packets that all workers dropped for this reason.
    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.workers.iter().map(|share| share.counters.dropped(reason)).sum()
    }

    /// Has the caretaker look after the SAs.
    pub(super) fn tend(&self, caretaker: &mut Caretaker) {
        let config = self.config();
        let (spd, hops) = (self.spd.load(), self.next_hops.load());
        let own: Vec<IpAddr> =
            hops.local_addresses().iter().chain(&config.outer.addresses).copied().collect();
        caretaker.tend(&Present {
            now: monotonic_ns(),
            unix_seconds: unix_seconds(),
            spd: &spd,
            outer_mtu: hops.side(Side::Outer).mtu,
            learned_mtu_seconds: config.icmp.learned_mtu.as_secs(),
            own_addresses: &own,
        });
        self.tell_segments();
    }

    fn tell_segments(&self) {
        let owned = self.table.owned_segments(monotonic_ns());
        if lock(&self.watch).owned.replace(owned).is_some_and(|before| before != owned) {
            self.listeners.tell(Happening::SegmentsChanged { owned: Segments::members(&owned) });
        }
    }

    /// Tells of alarms that came or went, `milliseconds` after the last look.
    fn tell_alarms(&self, milliseconds: u64) {
        let alarms = self.alarms();
        let watch = &mut *lock(&self.watch);
        for change in watch.drops.look(|reason| self.dropped(reason), milliseconds) {
            if change.raised {
                warn!("{}", change.alarm);
            }
            self.listeners.tell(Happening::Alarm { raised: change.raised, alarm: change.alarm });
        }
        let old = std::mem::replace(&mut watch.alarms, alarms);
        for (raised, these, others) in [(false, &old, &watch.alarms), (true, &watch.alarms, &old)] {
            for alarm in these.iter().filter(|alarm| !others.contains(alarm)) {
                self.listeners.tell(Happening::Alarm { raised, alarm: alarm.clone() });
            }
        }
    }

    /// What the main thread does many times a second: the filter follows addresses; and what it does once
    /// a second: the table is repaired if a writer died, it gets its epochs, prohibit routes that somebody flushed
    /// come back.
    pub(super) fn tick(&self) {
        if let Err(error) = self.follow_filter() {
            error!(%error, "the filter cannot be changed");
        }
        let mut last_look = lock(&self.last_look);
        let elapsed = last_look.elapsed();
        if elapsed < Duration::from_secs(1) {
            return;
        }
        *last_look = Instant::now();
        match self.table.recover_if_abandoned() {
            Ok(true) => {
                warn!("a process died while it changed the SA table; what it had not finished is undone");
            }
            Ok(false) => {}
            Err(error) => error!(%error, "the SA table cannot be repaired"),
        }
        let mut alarm = lock(&self.epoch_alarm);
        *alarm = maintain(&self.table, &self.keeper, alarm.as_deref());
        drop(alarm);
        self.with_inside(Inside::look);
        self.tell_alarms(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        if let Err(error) = self.restore_routes() {
            error!(%error, "the routes cannot be looked after");
        }
    }

    /// Puts routes back that somebody removed. The kernel is asked without holding up who changes policies, who looks
    /// after their routes himself.
    fn restore_routes(&self) -> Result<(), DaemonError> {
        let Some(protected) = self.try_dynamic(DynamicPolicies::protected) else { return Ok(()) };
        *lock(&self.route_alarm) = reverse_path::alarm(&self.config(), &protected);
        let open = prohibit::missing(&protected)?;
        let astray = media::not_diverted(&self.inner, &protected)?;
        if open.is_empty() && astray.is_empty() {
            return Ok(());
        }
        // What is protected no longer by now stays open.
        self.try_dynamic(|dynamic| {
            let (open, _) = dynamic.split(open);
            if !open.is_empty() {
                warn!(count = open.len(), "somebody removed prohibit routes; they are put back");
                prohibit::install(&open)?;
            }
            let (astray, _) = dynamic.split(astray);
            match self.change_diverted(&astray, &[]) {
                // The device is down, which the operator was told: the prohibit routes hold.
                Err(DaemonError::Prohibit(ProhibitError::Route { reason, .. }))
                    if reason.raw_os_error() == Some(libc::ENETDOWN) =>
                {
                    Ok(())
                }
                result => result,
            }
        })
        .unwrap_or(Ok(()))
    }

    /// Works on the dynamic policies, unless somebody does already.
    fn try_dynamic<T>(&self, work: impl FnOnce(&DynamicPolicies) -> T) -> Option<T> {
        match self.dynamic.try_lock() {
            Ok(dynamic) => Some(work(&dynamic)),
            Err(TryLockError::Poisoned(poisoned)) => Some(work(&poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn follow_filter(&self) -> Result<(), XdpError> {
        lock(&self.filter).follow(&self.next_hops.load())
    }

    /// Reads the configuration again.
    ///
    /// In I7's order: what protects grows before what forwards, and what forwards shrinks before what protects.
    /// Prohibit routes of prefixes that are no longer configured stay until `--uninstall`.
    pub(super) fn reload(&self) -> Result<ReloadReport, Refusal> {
        let mut dynamic = lock(&self.dynamic);
        let current = self.config();
        let new = Config::load(&current.path).map_err(|errors| {
            let remedy = "correct it and reload; the running configuration stays in force";
            Refusal::new(Code::Refused, errors.to_string().trim_end(), remedy)
        })?;
        let beside = dynamic.beside(&new).map_err(|problem| {
            let remedy =
                "change the configuration, or `dpctl policy remove` first; the running one stays in force";
            Refusal::new(Code::Refused, problem, remedy)
        })?;
        let mut report = changes(&current, &new);
        report.needs_restart = refuse_new_identity(&current, &new)?;
        let failed = |error: &dyn fmt::Display| {
            Refusal::new(
                Code::Internal,
                error,
                "a part of the new configuration may be in force; reload again",
            )
        };
        dynamic.adopt(beside);
        let protected = dynamic.protected();
        prohibit::install(&protected).map_err(|error| failed(&error))?;
        media::divert(&self.inner, &protected).map_err(|error| failed(&error))?;
        report.problems = install_static_sas(&self.table, &new, &Endpoints::of(&current));
        lock(&self.static_alarms).clone_from(&report.problems);
        self.replace_spd(new.spd(dynamic.placed()));
        let policies = dynamic.filter_policies(&new);
        lock(&self.filter).reconfigure(&new, &policies).map_err(|error| failed(&error))?;
        for filter in &self.outer_filters {
            filter.set_addresses(&new.outer.addresses).map_err(|error| failed(&error))?;
        }
        static_sas::remove(&self.table, &report.removed).map_err(|error| failed(&error))?;
        self.config.store(Arc::new(new));
        self.listeners.tell(Happening::Reload(report.clone()));
        Ok(report)
    }
}

/// Gives the table the epochs that it lacks, and tells what stands in the way.
fn maintain(table: &Table, keeper: &EpochKeeper, standing: Option<&str>) -> Option<String> {
    let alarm = match table.epoch_maintain(keeper) {
        Ok(report) => report.refused.map(|refused| {
            format!("sending stops when the current epoch is used up, as there is no spare one: {refused}")
        }),
        Err(refused) => Some(format!("nothing can be sent for want of an epoch: {refused}")),
    };
    if let Some(alarm) = &alarm
        && standing.is_none()
    {
        error!("{alarm}");
    }
    alarm
}

fn changes(running: &Config, new: &Config) -> ReloadReport {
    let mut report = ReloadReport::default();
    for tunnel in &new.tunnels {
        match running.tunnel(&tunnel.name) {
            None => report.added.push(tunnel.name.clone()),
            Some(old) if is_same(old, tunnel) => report.unchanged += 1,
            Some(_) => report.changed.push(tunnel.name.clone()),
        }
    }
    let removed = running.tunnels.iter().filter(|old| new.tunnel(&old.name).is_none());
    report.removed = removed.map(|old| old.name.clone()).collect();
    report
}

fn is_same(a: &Tunnel, b: &Tunnel) -> bool {
    // Any one instant will do: it is the time until the end that is compared.
    a.policy() == b.policy() && a.inbound_sa(0) == b.inbound_sa(0) && a.outbound_sa(0) == b.outbound_sa(0)
}

/// Who this gateway is cannot change while it runs; other settings wait for a restart.
fn refuse_new_identity(running: &Config, new: &Config) -> Result<Vec<String>, Refusal> {
    if format!("{:?}", running.node) != format!("{:?}", new.node) {
        let remedy = "restart the data plane: no SA is lost, and nothing passes in clear meanwhile";
        return Err(Refusal::new(Code::Refused, "[node] cannot change while the data plane runs", remedy));
    }
    let settings = |config: &Config| {
        [
            ("[table] capacity", config.table.capacity.to_string()),
            ("[outer] interface and io", format!("{} {:?}", config.outer.interface, config.outer.io)),
            ("[inner]", format!("{:?}", config.inner)),
            ("[icmp]", format!("{:?}", config.icmp)),
            ("[acquire]", format!("{:?}", config.acquire)),
            ("[workers]", format!("{:?}", config.workers)),
            ("[segments] hash and seed", format!("{:?} {}", config.segments.hash, config.segments.seed)),
        ]
    };
    let pairs = settings(running).into_iter().zip(settings(new));
    let waiting = pairs.filter(|(running, new)| running.1 != new.1);
    Ok(waiting
        .map(|((name, _), _)| format!("{name} takes effect when the data plane is restarted"))
        .collect())
}

/// A poisoned lock's value is still whole: every change under it is a single store.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
