//! I1 against crashes, rolled-back files, wrong clocks and full disks, case by case.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machine::{NOW, Shared, Words};
use super::{directory, new_table, node, options};
use crate::epoch::{choose, maintain};
use crate::fault::{self, End};
use crate::{EpochError, EpochKeeper, IvError, LEAD, SystemFiles, Table, UNIT};

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

/// Gives epochs to a table from real files.
fn maintain_for_real(directory: &Path) -> Table {
    let clock = Box::new(Shared::at(NOW, 100_000));
    let keeper = EpochKeeper::with(directory, directory, node(2), clock, Box::new(SystemFiles));
    let table = Table::open_or_create(&directory.join("sa-table"), &options(1)).expect("opened");
    table.epoch_maintain(&keeper).expect("granted");
    table
}

const CHILD: &str = "BATON_SAD_EPOCH_CHILD";

#[test]
fn a_process_killed_inside_a_grant_never_repeats_it() {
    for step in 1.. {
        let directory = directory();
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "tests::epochs::child", "--ignored", "--quiet"])
            .env(CHILD, format!("{step}:{}", directory.path().display()))
            .stdout(Stdio::null())
            .status()
            .expect("ran");
        assert!(status.success() || status.signal() == Some(9), "the child ended with {status}");
        let path = directory.path().join("sa-table");
        let used = Table::open(&path).map_or((None, None), |table| {
            let state = table.epoch_state();
            (state.current, state.spare)
        });
        // A new table, which needs new epochs, while the clock stands still.
        let _ = std::fs::remove_file(&path);
        let first = maintain_for_real(directory.path()).epoch_state().current.expect("granted");
        for earlier in [used.0, used.1].into_iter().flatten() {
            assert!(first > earlier, "killed at step {step}: {first} after {earlier}");
        }
        if status.success() {
            break;
        }
    }
}

#[test]
#[ignore = "the process that the test above kills"]
fn child() {
    let order = std::env::var(CHILD).expect("run by the test above");
    let (step, directory) = order.split_once(':').expect("step:directory");
    fault::die_at_step(step.parse().expect("a number"), End::Kill);
    maintain_for_real(Path::new(directory));
    fault::die_at_step(0, End::Kill);
}

#[test]
fn a_grant_is_durable_when_it_returns() {
    let machine = Shared::at(NOW, 100_000);
    let last = machine.keeper().grant().expect("granted");
    machine.reboot(0, false);
    // The clock does not help either.
    machine.lock().clock -= 20;
    machine.lock().since_boot = 10_000;
    assert_eq!(machine.keeper().grant().expect("granted"), last + 1);
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
fn every_report_tells_that_the_clock_is_behind() {
    let directory = directory();
    let table = new_table(&directory, 1);
    let machine = Shared::at(NOW, 100_000);
    let report = table.epoch_maintain(&machine.keeper()).expect("granted");
    assert_eq!(report.clock_behind, None);
    machine.lock().clock -= 3600;
    let report = table.epoch_maintain(&machine.keeper()).expect("nothing to grant");
    let behind = report.clock_behind.expect("an alarm");
    assert!(report.refused.is_none() && (3400..3600).contains(&behind), "{behind}");
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
    assert_eq!(i64::try_from(before.len()), Ok(LEAD + 1), "as many as the lead allows, and no more");
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

/// I1: the files were lost, or are those of an earlier time, but the table is there.
#[test]
fn a_spare_lies_above_the_epoch_in_use_whatever_the_files_say() {
    let machine = Shared::at(NOW, 100_000);
    let lower = machine.keeper().grant().expect("granted");
    let table = Words::default();
    table.source().install(lower + 4);
    let report = maintain(table.source(), &machine.keeper()).expect("has an epoch");
    assert_eq!((report.current, report.spare), (lower + 4, Some(lower + 5)));
    assert!(report.refused.is_none());
    // And above all that the clock allows: refused with a reason, and no spare.
    let table = Words::default();
    table.source().install(lower + 4000);
    let report = maintain(table.source(), &machine.keeper()).expect("has an epoch");
    assert!(matches!(report.refused, Some(EpochError::ClockBehind { last, .. }) if last == lower + 4000));
    assert_eq!(report.spare, None);
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
