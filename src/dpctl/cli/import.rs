//! `dpctl import-swanctl`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(in crate::dpctl) struct ImportOptions {
    /// A swanctl.conf; what it includes is read too.
    pub(in crate::dpctl) file: PathBuf,
    /// Where to write, of mode 0600; absent: standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::dpctl) output: Option<PathBuf>,
    /// This gateway's number, unique in its cluster; with it and the three below, a whole configuration is written.
    #[arg(long, value_name = "ID", requires_all = ["cluster", "outer", "inner"])]
    #[arg(value_parser = clap::value_parser!(u8).range(1..))]
    pub(in crate::dpctl) node: Option<u8>,
    /// The cluster's name.
    #[arg(long, value_name = "NAME", requires = "node")]
    pub(in crate::dpctl) cluster: Option<String>,
    /// The interface of the ciphertext side.
    #[arg(long, value_name = "INTERFACE", requires = "node")]
    pub(in crate::dpctl) outer: Option<String>,
    /// The interface of the plaintext side, or tun:NAME.
    #[arg(long, value_name = "INTERFACE", requires = "node")]
    pub(in crate::dpctl) inner: Option<String>,
    /// An outer address of this gateway beside those that connections name; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::dpctl) address: Vec<IpAddr>,
}
