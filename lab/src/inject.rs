//! Putting captured or crafted frames back on a wire.

use crate::command;
use crate::content::hex;
use crate::error::Result;
use crate::namespace::Namespace;

/// Reads an interface's name and then a frame in hex a line; sends them in batches that a veth's ring can hold.
const SENDER: &str = "\
import socket, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.stdin.readline().strip(), 0))
for number, line in enumerate(sys.stdin):
    wire.send(bytes.fromhex(line))
    if number % 32 == 31:
        time.sleep(0.001)
";

/// Sends `frames` out of `interface` of `namespace`, in order.
///
/// # Errors
/// If the interface is missing or down.
pub fn frames<'a>(
    namespace: &Namespace,
    interface: &str,
    frames: impl IntoIterator<Item = &'a [u8]>,
) -> Result<()> {
    let lines: Vec<String> = frames.into_iter().map(hex).collect();
    let input = format!("{interface}\n{}\n", lines.join("\n"));
    let mut command = namespace.command("python3");
    command.args(["-c", SENDER]);
    command::run_with_input(&mut command, input.trim_end().as_bytes()).map(drop)
}
