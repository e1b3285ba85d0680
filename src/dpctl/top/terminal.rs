//! The live screen, and the terminal as it was before on every way out.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use baton_dataplane::config::Config;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;

use super::choice::Choice;
use super::draw::draw;
use super::model::{History, View};
use super::sampler::{Sampler, until_next};
use super::screen::{Next, Screen};
use crate::dpctl::error::DpctlError;
use crate::dpctl::interruption::Interruption;

/// How often is looked for signals while no key is pressed.
const TICK: Duration = Duration::from_millis(100);

/// Restores the terminal when it goes, whatever happens; [`ratatui::try_init`] sees to panics before they are told.
struct Restored(DefaultTerminal);

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows and obeys until the operator has enough.
///
/// # Errors
/// When the terminal is none, or goes away.
pub(super) fn run(config: &Config, interval: Duration, choice: Choice) -> Result<(), DpctlError> {
    let signals = Interruption::defer().map_err(DpctlError::Signals)?;
    let views = watch(config.clone(), interval);
    let mut terminal = Restored(ratatui::try_init()?);
    let mut screen = Screen::new(choice);
    "looking around".clone_into(&mut screen.view.gateway);
    loop {
        match views.try_recv() {
            Ok(view) => screen.show(view),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(io::Error::other("the sampling thread ended").into());
            }
        }
        terminal.0.draw(|frame| draw(&mut screen, frame))?;
        if signals.check().is_err() || obey(&mut screen)? == Next::End {
            return Ok(());
        }
    }
}

/// Waits a moment for keys, and does what all say that are there.
fn obey(screen: &mut Screen) -> io::Result<Next> {
    let mut patience = TICK;
    while event::poll(patience)? {
        if screen.event(&event::read()?) == Next::End {
            return Ok(Next::End);
        }
        patience = Duration::ZERO;
    }
    Ok(Next::Go)
}

/// Samples in a thread of its own, so that a daemon that takes its time does not hold up the keys.
fn watch(config: Config, interval: Duration) -> Receiver<View> {
    let (teller, views) = sync_channel(1);
    // It ends with the process, or when nobody looks any more.
    thread::spawn(move || {
        let (mut sampler, mut history) = (Sampler::new(&config), History::default());
        loop {
            let began = Instant::now();
            if teller.send(history.view(&sampler.look())).is_err() {
                return;
            }
            thread::sleep(until_next(began, interval));
        }
    });
    views
}
