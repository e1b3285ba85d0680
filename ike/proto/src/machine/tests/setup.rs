//! Setting up (RFC 7296 section 1.2).

use super::pair::Pair;

#[test]
fn a_tunnel_with_a_shared_secret_and_one_child_stands() {
    let mut pair = Pair::plain();
    pair.initiate();
    pair.assert_up(1);
    assert_eq!(pair.left.policies.len(), 1);
    assert_eq!(pair.right.policies.len(), 1);
}
