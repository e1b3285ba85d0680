//! `dpctl top`: a live view of the gateway.
//!
//! [`sampler`] asks, [`model`] makes rates of two samples, [`screen`] knows what keys do, [`draw`] makes characters of
//! it; [`terminal`] joins them. Only the first and the last touch the world.

mod choice;
mod draw;
mod model;
mod number;
mod sample;
mod sampler;
mod screen;
mod terminal;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Instant;

use baton_dataplane::config::Config;

use super::cli::TopOptions;
use super::error::DpctlError;
use super::output::Output;
use choice::Choice;
use model::{History, View};
use sampler::{Sampler, until_next};

pub(super) fn run(config: &Config, options: &TopOptions, output: Output) -> Result<(), DpctlError> {
    let choice = Choice { order: options.sort, reversed: false, filter: options.filter.clone() };
    if !options.once && !output.is_json() {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err(DpctlError::NoTerminal);
        }
        return terminal::run(config, options.interval, choice);
    }
    print(config, options, &choice, output)
}

/// For scripts: one look, or one line of JSON for each.
fn print(config: &Config, options: &TopOptions, choice: &Choice, output: Output) -> Result<(), DpctlError> {
    let (mut sampler, mut history) = (Sampler::new(config), History::default());
    let mut began = Instant::now();
    let first = sampler.look();
    if let (Err(_), Err(problem)) = (&first.data_plane, &first.sas) {
        return Err(DpctlError::NothingToSee(problem.clone()));
    }
    // There are no rates yet.
    history.view(&first);
    loop {
        thread::sleep(until_next(began, options.interval));
        began = Instant::now();
        let mut view = history.view(&sampler.look());
        let chosen = choice.of(&view).into_iter().cloned();
        let limit = if options.limit == 0 { usize::MAX } else { options.limit };
        view.tunnels = chosen.take(limit).collect();
        if output.is_json() {
            line(&view)?;
        } else {
            table(&view, output)?;
        }
        if options.once {
            return Ok(());
        }
    }
}

fn line(view: &View) -> Result<(), DpctlError> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, view).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

fn table(view: &View, output: Output) -> Result<(), DpctlError> {
    output.answer(view, |out| {
        writeln!(out, "{}", draw::printable(&view.gateway))?;
        view.notes.iter().try_for_each(|note| writeln!(out, "NOTE: {}", draw::printable(note)))?;
        view.alarms.iter().try_for_each(|alarm| writeln!(out, "ALARM: {}", draw::printable(alarm)))?;
        draw::summary(view).iter().try_for_each(|line| writeln!(out, "{line}"))?;
        let rows: Vec<Vec<String>> = view.tunnels.iter().map(|tunnel| draw::cells(tunnel).to_vec()).collect();
        writeln!(out)?;
        output.table(out, &draw::HEADING, &rows)
    })
}
