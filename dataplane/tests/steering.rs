//! The XDP filter in the kernel against its twin in Rust, packet by packet (BPF_PROG_TEST_RUN).

mod steering_support;

use baton_dataplane::io::Side;
use baton_dataplane::xdp::DryRun;
use steering_support::privileged;

#[test]
fn the_verifier_accepts_the_filter() {
    if !privileged("the_verifier_accepts_the_filter") {
        return;
    }
    let mut filter = DryRun::load().unwrap_or_else(|e| panic!("{e}"));
    println!("{:?}", filter.run(Side::Outer, &[0; 60]));
}
