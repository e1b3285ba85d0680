//! I1 against crashes, rolled-back files, wrong clocks and full disks.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;

use super::{directory, new_table, node};
use crate::epoch::{START, choose, maintain};
use crate::iv::IvSource;
use crate::{EpochClock, EpochError, EpochFiles, EpochKeeper, IvError, LEAD, UNIT, fault};

/// 2026-06-01.
const NOW: i64 = 1_780_272_000;

/// A machine: disk, tmpfs, and a clock that may be wrong.
#[derive(Debug, Clone, Default)]
struct Machine {
    /// What programs see.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// What is there after the power failed: contents that were synced, under names that were.
    durable: BTreeMap<PathBuf, Vec<u8>>,
    synced: BTreeMap<PathBuf, Vec<u8>>,
    /// Earlier states of the disk, to roll back to.
    history: Vec<BTreeMap<PathBuf, Vec<u8>>>,
    clock: i64,
    since_boot: i64,
    /// The operation that fails next, counted down; 0 is none.
    fail_in: u32,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Machine>>);

impl Shared {
    fn at(clock: i64, since_boot: i64) -> Self {
        let machine = Self::default();
        (machine.lock().clock, machine.lock().since_boot) = (clock, since_boot);
        machine
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn keeper(&self) -> EpochKeeper {
        let (clock, files) = (Box::new(self.clone()), Box::new(self.clone()));
        EpochKeeper::with(Path::new("/disk"), Path::new("/tmpfs"), node(2), clock, files)
    }

    /// One operation: a step at which the process may die, and which may fail.
    fn operation(&self) -> io::Result<MutexGuard<'_, Machine>> {
        fault::step();
        let mut machine = self.lock();
        if machine.fail_in > 0 {
            machine.fail_in -= 1;
            if machine.fail_in == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
        }
        Ok(machine)
    }

    /// The disk as it was at an earlier time.
    fn roll_back(&self, choice: usize) {
        let mut machine = self.lock();
        if machine.history.is_empty() {
            return;
        }
        let earlier = machine.history[choice % machine.history.len()].clone();
        machine.files.retain(|path, _| !path.starts_with("/disk"));
        machine.files.extend(earlier.clone());
        machine.synced.extend(earlier.clone());
        machine.durable = earlier;
    }

    /// The power fails, and comes back after some seconds. What was not synced may be there or not.
    fn reboot(&self, seconds: i64, keep_unsynced: bool) {
        let mut machine = self.lock();
        machine.files.retain(|path, _| path.starts_with("/disk"));
        if !keep_unsynced {
            machine.files = machine.durable.clone();
        }
        machine.clock += seconds;
        machine.since_boot = 20;
    }

    fn pass(&self, seconds: i64) {
        let mut machine = self.lock();
        machine.clock += seconds;
        machine.since_boot += seconds;
    }
}

impl EpochClock for Shared {
    fn unix_seconds(&self) -> i64 {
        self.lock().clock
    }
    fn seconds_since_boot(&self) -> i64 {
        self.lock().since_boot
    }
}

impl EpochFiles for Shared {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.operation()?.files.get(path).cloned())
    }
    fn write(&self, path: &Path, octets: &[u8]) -> io::Result<()> {
        // Truncated first; then full, or dead.
        self.operation()?.files.insert(path.to_owned(), Vec::new());
        let half = octets[..octets.len() / 2].to_vec();
        self.operation()?.files.insert(path.to_owned(), half);
        self.operation()?.files.insert(path.to_owned(), octets.to_vec());
        Ok(())
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.operation()?;
        let octets = machine.files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        machine.synced.insert(path.to_owned(), octets);
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.operation()?;
        let octets = machine.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        machine.files.insert(to.to_owned(), octets);
        if let Some(synced) = machine.synced.remove(from) {
            machine.synced.insert(to.to_owned(), synced);
        }
        Ok(())
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.operation()?;
        if path == Path::new("/disk") {
            let before = machine.durable.clone();
            machine.history.push(before);
            let names = machine.files.keys().filter(|name| name.starts_with(path)).cloned();
            let durable = names.collect::<Vec<_>>().into_iter();
            machine.durable = durable
                .map(|name| (name.clone(), machine.synced.get(&name).cloned().unwrap_or_default()))
                .collect();
        }
        Ok(())
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any>> {
        Ok(Box::new(()))
    }
}

/// The two words of a table that IVs come from.
#[derive(Debug, Default)]
struct Words {
    iv: AtomicU64,
    spare: AtomicU64,
}

impl Words {
    fn source(&self) -> IvSource<'_> {
        IvSource { word: &self.iv, spare: &self.spare }
    }

    /// Draws nearly all that is left of the epoch, to come to the next one.
    fn draw_the_rest(&self) -> Option<(u32, u32, u32)> {
        let left = self.source().state().remaining;
        let count = u32::try_from(left.saturating_sub(3)).unwrap_or(u32::MAX);
        self.draw(count)
    }

    fn draw(&self, count: u32) -> Option<(u32, u32, u32)> {
        self.source().take(count).ok().map(|(epoch, first)| (epoch, first, count))
    }
}

#[derive(Debug, Clone)]
enum Event {
    Maintain,
    MaintainDyingAt(u64),
    MaintainFailingAt(u32),
    Draw(u32),
    DrawTheRest,
    Pass(i64),
    JumpClock(i64),
    RollBack(usize),
    NewTable,
    Reboot { seconds: i64, keep_unsynced: bool, roll_back: Option<usize> },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Maintain),
        4 => (1_u64..40).prop_map(Event::MaintainDyingAt),
        2 => (1_u32..40).prop_map(Event::MaintainFailingAt),
        4 => (1_u32..100).prop_map(Event::Draw),
        5 => Just(Event::DrawTheRest),
        4 => (1_i64..60).prop_map(Event::Pass),
        2 => (-400_i64..400).prop_map(Event::JumpClock),
        2 => (0_usize..50).prop_map(Event::RollBack),
        3 => Just(Event::NewTable),
        2 => (0_i64..300, any::<bool>(), prop::option::of(0_usize..50))
            .prop_map(|(seconds, keep_unsynced, roll_back)| Event::Reboot { seconds, keep_unsynced, roll_back }),
    ]
}

/// The world that events happen to.
struct World {
    machine: Shared,
    table: Words,
    /// Blocks that were drawn: (epoch, first, count).
    drawn: Vec<(u32, u32, u32)>,
    /// Epochs that came into a table, each with the table's number.
    used: HashSet<u32>,
    known: (Option<u32>, Option<u32>),
}

impl World {
    fn new() -> Self {
        let (machine, table) = (Shared::at(NOW, 1000), Words::default());
        let (drawn, used, known) = (Vec::new(), HashSet::new(), (None, None));
        Self { machine, table, drawn, used, known }
    }

    fn maintain(&mut self) {
        let _ = maintain(self.table.source(), &self.machine.keeper());
    }

    /// Does something to the machine, unless it is more than a node alone can know: the file rolled
    /// back, the mark gone with the power, and the clock set back, all at once. That is for the node's
    /// neighbours to remember.
    fn try_to(&mut self, event: impl FnOnce(&Shared)) -> bool {
        let before = self.machine.lock().clone();
        event(&self.machine);
        let possible =
            self.remembers("/disk/epoch") || self.remembers("/tmpfs/epoch-mark") || self.clock_tells();
        if !possible {
            *self.machine.lock() = before;
        }
        possible
    }

    /// Whether this file is at or above every epoch in use so far.
    fn remembers(&self, file: &str) -> bool {
        let machine = self.machine.lock();
        let text =
            machine.files.get(Path::new(file)).map(|octets| String::from_utf8_lossy(octets).into_owned());
        let epoch = text.and_then(|text| text.split(' ').nth(5)?.parse::<u32>().ok()).unwrap_or(0);
        self.used.iter().all(|used| *used <= epoch)
    }

    /// Whether the clock, at the machine's start, was where the grants so far were allowed.
    fn clock_tells(&self) -> bool {
        let start = self.machine.unix_seconds() - self.machine.seconds_since_boot();
        let limit = (start - START).div_euclid(UNIT) + LEAD;
        self.used.iter().all(|used| i64::from(*used) <= limit)
    }

    /// Every epoch that newly shows in the table must never have been in one before.
    fn note_epochs(&mut self) {
        let state = self.table.source().state();
        let (known_current, known_spare) = self.known;
        if state.current != known_current && state.current != known_spare {
            state
                .current
                .into_iter()
                .for_each(|epoch| assert!(self.used.insert(epoch), "granted twice: {epoch}"));
        }
        if state.spare != known_spare {
            state
                .spare
                .into_iter()
                .for_each(|epoch| assert!(self.used.insert(epoch), "granted twice: {epoch}"));
        }
        self.known = (state.current, state.spare);
    }

    fn new_table(&mut self) {
        self.table = Words::default();
        self.known = (None, None);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Maintain => self.maintain(),
            Event::MaintainDyingAt(step) => {
                fault::survive(step, || self.maintain());
            }
            Event::MaintainFailingAt(operation) => {
                self.machine.lock().fail_in = operation;
                self.maintain();
                self.machine.lock().fail_in = 0;
            }
            Event::Draw(count) => self.drawn.extend(self.table.draw(count)),
            Event::DrawTheRest => self.drawn.extend(self.table.draw_the_rest()),
            Event::Pass(seconds) => self.machine.pass(seconds),
            Event::JumpClock(seconds) => {
                self.try_to(|machine| machine.lock().clock += seconds);
            }
            Event::RollBack(choice) => {
                self.try_to(|machine| machine.roll_back(choice));
            }
            Event::NewTable => self.new_table(),
            Event::Reboot { seconds, keep_unsynced, roll_back } => {
                let rebooted = self.try_to(|machine| {
                    machine.reboot(seconds, keep_unsynced);
                    roll_back.into_iter().for_each(|choice| machine.roll_back(choice));
                });
                if rebooted {
                    self.new_table();
                }
            }
        }
        self.note_epochs();
    }

    fn assert_no_iv_twice(&mut self) {
        self.drawn.sort_unstable();
        for pair in self.drawn.windows(2) {
            let ((epoch, first, count), (next_epoch, next, _)) = (pair[0], pair[1]);
            let apart = next_epoch > epoch || u64::from(first) + u64::from(count) <= u64::from(next);
            assert!(apart, "IVs drawn twice: {pair:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_epoch_is_granted_twice_whatever_happens(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.assert_no_iv_twice();
    }
}

#[test]
fn a_grant_that_dies_at_any_step_is_never_repeated() {
    for rolled_back in [false, true] {
        for step in 1.. {
            let machine = Shared::at(NOW, 100_000);
            let first = machine.keeper().grant().expect("granted");
            let table = Words::default();
            let finished = fault::survive(step, || {
                maintain(table.source(), &machine.keeper()).expect("granted");
            });
            if rolled_back {
                machine.roll_back(0);
            }
            let state = table.source().state();
            let next = machine.keeper().grant().expect("granted");
            for used in [Some(first), state.current, state.spare].into_iter().flatten() {
                assert!(next > used, "died at {step}: {next} after {used}");
            }
            if finished {
                break;
            }
        }
    }
}

#[test]
fn real_files_survive_a_grant_that_dies_at_any_step() {
    let (state, runtime) = (directory(), directory());
    let keeper = EpochKeeper::with(
        state.path(),
        runtime.path(),
        node(2),
        Box::new(Shared::at(NOW + 100_000, 1_000_000)),
        Box::new(crate::SystemFiles),
    );
    let mut last = keeper.grant().expect("granted");
    for step in 1..12 {
        // Each grant is one unit further: keep within the lead.
        let mut granted = None;
        fault::survive(step, || granted = keeper.grant().ok());
        if granted.is_some() {
            break;
        }
        match keeper.grant() {
            Ok(next) => {
                assert!(next > last, "died at {step}");
                last = next;
            }
            Err(EpochError::TooEarly(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_file_rolled_back_within_one_unit_is_noticed_by_the_mark() {
    let machine = Shared::at(NOW, 100_000);
    let grants: Vec<u32> = (0..3)
        .map(|_| {
            let epoch = machine.keeper().grant().expect("granted");
            machine.roll_back(0);
            epoch
        })
        .collect();
    assert!(grants.windows(2).all(|pair| pair[0] < pair[1]), "{grants:?}");
}

#[test]
fn a_full_disk_or_a_failing_sync_refuses_and_later_never_repeats() {
    for operation in 1..20 {
        let machine = Shared::at(NOW, 100_000);
        let first = machine.keeper().grant().expect("granted");
        machine.lock().fail_in = operation;
        let failing = machine.keeper().grant();
        let failed = machine.lock().fail_in == 0;
        machine.lock().fail_in = 0;
        let next = machine.keeper().grant().expect("granted");
        match failing {
            Ok(granted) => assert!(!failed && first < granted && granted < next),
            Err(EpochError::File { .. }) => assert!(failed && first < next),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_clock_that_was_set_back_is_an_alarm_and_refused() {
    let machine = Shared::at(NOW, 100_000);
    let last = machine.keeper().grant().expect("granted");
    machine.lock().clock -= 3600;
    match machine.keeper().grant() {
        Err(EpochError::ClockBehind { last: reported, behind }) => {
            assert_eq!(reported, last);
            machine.lock().clock += behind;
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(machine.keeper().grant().expect("granted"), last + 1);
}

#[test]
fn a_clock_set_back_by_less_than_the_lead_goes_on_rising() {
    let machine = Shared::at(NOW, 100_000);
    let last = machine.keeper().grant().expect("granted");
    machine.lock().clock -= 3 * UNIT;
    assert_eq!(machine.keeper().grant().expect("granted"), last + 1);
}

#[test]
fn a_replaced_disk_waits_until_it_is_past_everything_before_the_start() {
    let machine = Shared::at(NOW, 100_000);
    let before: Vec<u32> = std::iter::from_fn(|| machine.keeper().grant().ok()).collect();
    assert_eq!(before.len() as i64, LEAD + 1, "as many as the lead allows, and no more");
    machine.reboot(0, false);
    machine.lock().files.clear();
    machine.lock().since_boot = 0;
    let Err(EpochError::TooEarly(wait)) = machine.keeper().grant() else { panic!("granted too early") };
    machine.pass(wait);
    assert!(machine.keeper().grant().expect("granted") > before[before.len() - 1]);
}

#[test]
fn clocks_that_cannot_be_are_refused() {
    assert!(matches!(choose(0, 0, 10), Err(EpochError::ClockUnset)));
    assert!(matches!(choose(0, 4_000_000_000, 10_000), Err(EpochError::Exhausted)));
    assert!(choose(0, NOW, -1_000_000_000_000).is_err());
}

#[test]
fn a_damaged_or_foreign_epoch_file_is_refused() {
    let machine = Shared::at(NOW, 100_000);
    machine.keeper().grant().expect("granted");
    let (clock, files) = (Box::new(machine.clone()), Box::new(machine.clone()));
    let other = EpochKeeper::with(Path::new("/disk"), Path::new("/tmpfs"), node(3), clock, files);
    assert!(matches!(other.grant(), Err(EpochError::OtherNode { found: 2, .. })));
    for file in ["/disk/epoch", "/tmpfs/epoch-mark"] {
        let path = PathBuf::from(file);
        let good = machine.lock().files[&path].clone();
        machine.lock().files.insert(path.clone(), good[..good.len() - 2].to_vec());
        assert!(matches!(machine.keeper().grant(), Err(EpochError::Damaged(damaged)) if damaged == path));
        machine.lock().files.insert(path, good);
    }
}

#[test]
fn an_epoch_that_ends_takes_the_spare_and_without_one_sending_stops() {
    let directory = directory();
    let table = new_table(&directory, 1);
    assert_eq!(table.iv_block(1), Err(IvError::NoEpoch));
    let machine = Shared::at(NOW, 100_000);
    let report = table.epoch_maintain(&machine.keeper()).expect("granted");
    let (first, second) = (report.current, report.spare.expect("a spare"));
    let block: Vec<u64> = table.iv_block(2).expect("drawn").collect();
    let prefix = |epoch: u32| 2 << 56 | u64::from(epoch) << 32;
    assert_eq!(block, [prefix(first), prefix(first) | 1]);
    table.iv_block(u32::MAX - 2).expect("drawn");
    // One IV is left: a block of two comes from the next epoch.
    assert_eq!(table.iv_block(2).expect("drawn").next(), Some(prefix(second)));
    assert_eq!(table.epoch_state().spare, None);
    table.iv_block(u32::MAX - 1).expect("drawn");
    assert_eq!(table.iv_block(1).expect_err("used up"), IvError::NoSpare(second));
    let third = table.epoch_maintain(&machine.keeper()).expect("granted").spare.expect("a spare");
    assert_eq!(table.iv_block(1).expect("drawn").collect::<Vec<_>>(), [prefix(third)]);
}

#[test]
fn a_table_with_an_epoch_works_on_when_no_spare_can_be_granted() {
    let directory = directory();
    let table = new_table(&directory, 1);
    let machine = Shared::at(NOW, 100_000);
    let only = machine.keeper().grant().expect("granted");
    table.iv_source().install(only);
    machine.lock().fail_in = 4;
    let report = table.epoch_maintain(&machine.keeper()).expect("has an epoch");
    assert_eq!((report.current, report.spare), (only, None));
    assert!(matches!(report.refused, Some(EpochError::File { .. })));
    assert_eq!(table.iv_block(5).expect("drawn").len(), 5);
}

#[test]
fn an_empty_block_at_the_end_of_an_epoch_does_not_start_it_again() {
    let table = Words::default();
    table.source().install(5);
    table.draw(u32::MAX).expect("drawn");
    table.draw(1).expect("drawn");
    assert_eq!(table.source().take(0), Ok((5, 0)));
    assert_eq!(table.source().take(1), Err(IvError::NoSpare(5)));
    table.source().install(5);
    assert_eq!(table.source().take(1), Err(IvError::NoSpare(5)), "an epoch is not its own spare");
}
