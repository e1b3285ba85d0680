//! Running a command to its end, with errors that quote the command line.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::error::{LabError, Result};

/// The command line as a person would type it.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn failed(command: &Command, detail: &dyn std::fmt::Display) -> LabError {
    LabError::Command { command: describe(command), detail: detail.to_string().trim().to_owned() }
}

/// Runs `command` and returns its output, whatever its exit code.
///
/// # Errors
/// If the command cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|error| failed(command, &error))
}

/// Runs `command` with `input` on its stdin and returns its output, whatever its exit code.
///
/// # Errors
/// If the command cannot be started or does not read its input.
pub fn output_with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(command, &error))?;
    let mut stdin = child.stdin.take();
    std::thread::scope(|scope| {
        // A child that refuses early closes its stdin: its exit code tells more than our broken pipe.
        scope.spawn(move || stdin.take().map(|mut pipe| pipe.write_all(input)));
        child.wait_with_output()
    })
    .map_err(|error| failed(command, &error))
}

/// Runs `command` and returns what it printed.
///
/// # Errors
/// If it cannot be started or ends with a non-zero exit code.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    checked(command, &output)
}

/// Runs `command` with `input` on its stdin and returns what it printed.
///
/// # Errors
/// If it cannot be started or ends with a non-zero exit code.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    let output = output_with_input(command, input)?;
    checked(command, &output)
}

fn checked(command: &Command, output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(command, &format_args!("{} {}", output.status, said)))
}
