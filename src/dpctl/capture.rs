//! `dpctl capture`: packets as pcap.

use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use baton_ctx_transfer::private_file::PrivateFile;
use baton_dataplane::config::Config;
use baton_dataplane::control::{CaptureRequest, CaptureSide};

use super::cli::{CaptureOptions, Side};
use super::error::DpctlError;
use super::live;

pub(super) fn run(config: &Config, options: &CaptureOptions) -> Result<(), DpctlError> {
    let file = options.output.as_deref().filter(|path| *path != Path::new("-"));
    if file.is_none() && io::stdout().is_terminal() {
        return Err(DpctlError::Terminal);
    }
    let request = CaptureRequest {
        side: match options.side {
            Side::Encrypted => CaptureSide::Encrypted,
            Side::Decrypted => CaptureSide::Decrypted,
        },
        host: options.host,
        spi: options.spi,
        protocol: options.protocol,
        port: options.port,
        limit: options.count,
    };
    let packets = live::connect(config)?.capture(&request)?;
    let Some(path) = file else { return copy(packets, io::stdout().lock()) };
    let mut file = PrivateFile::create(path)?;
    copy(packets, &mut file.file)?;
    Ok(file.publish()?)
}

/// Each packet at once, so that what reads us sees it when it passes.
fn copy(mut packets: impl Read, mut out: impl Write) -> Result<(), DpctlError> {
    let mut buffer = [0; 8 * 1024];
    loop {
        match packets.read(&mut buffer)? {
            0 => return Ok(()),
            read => out.write_all(&buffer[..read]).and_then(|()| out.flush())?,
        }
    }
}
