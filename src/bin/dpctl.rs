//! `dpctl`: the operator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    baton::dpctl::main()
}
