//! Which system calls there are (seccomp(2)): those that the loop, its threads and the standard library make. Any other
//! one ends the process ([`super::violation`]).

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Allowed whatever their arguments are.
const ALLOWED: &[i64] = &[
    // Sockets, pipes, waiting.
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // Files: which ones, Landlock and permissions decide.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_ftruncate,
    libc::SYS_flock,
    libc::SYS_fcntl,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads and time.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_membarrier,
    // Whether the SA table is in memory, and whose it is.
    libc::SYS_fstatfs,
    libc::SYS_geteuid,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls that newer architectures no longer have.
#[cfg(target_arch = "x86_64")]
const OLD: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_readlink,
    libc::SYS_renameat,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];

pub(super) fn restrict() -> Result<(), Error> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(OLD).map(|number| (*number, Vec::new())).collect();
    rules.extend(conditional()?);
    let list = SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, arch)?;
    // Its arguments are in memory, where a filter cannot look. Without it glibc takes `clone`.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let no_clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, absent, arch)?;
    for filter in [no_clone3, list] {
        apply_filter(&BpfProgram::try_from(filter)?)?;
    }
    Ok(())
}

/// Allowed with some arguments only.
fn conditional() -> Result<BTreeMap<i64, Vec<SeccompRule>>, Error> {
    const THREAD: u64 = libc::CLONE_THREAD as u64;
    const EXECUTABLE: u64 = libc::PROT_EXEC as u64;
    const SET_ANONYMOUS_NAME: u64 = 0x5356_4d41;
    // What the kernel told the process at its start, which rustix asks for when it first wants to know the page size.
    const GET_AUXILIARY_VECTOR: u64 = 0x4155_5856;
    let equal = |argument, value| condition(argument, SeccompCmpOp::Eq, value);
    let masked = |argument, mask, value| condition(argument, SeccompCmpOp::MaskedEq(mask), value);
    // The type without its flags.
    let datagram = || masked(1, 0xf, libc::SOCK_DGRAM as u64);
    Ok(BTreeMap::from([
        // A new thread, never a new process.
        (libc::SYS_clone, vec![rule([masked(0, THREAD, THREAD)?])?]),
        // See the other filter; without this one it would be a violation.
        (libc::SYS_clone3, Vec::new()),
        // No memory becomes code.
        (libc::SYS_mmap, vec![rule([masked(2, EXECUTABLE, 0)?])?]),
        (libc::SYS_mprotect, vec![rule([masked(2, EXECUTABLE, 0)?])?]),
        (
            libc::SYS_socket,
            vec![
                rule([equal(0, libc::AF_UNIX as u64)?])?,
                rule([equal(0, libc::AF_INET as u64)?, datagram()?])?,
                rule([equal(0, libc::AF_INET6 as u64)?, datagram()?])?,
            ],
        ),
        // Switching a socket's waiting on or off.
        (libc::SYS_ioctl, vec![rule([equal(1, libc::FIONBIO)?])?]),
        (
            libc::SYS_prctl,
            vec![
                rule([equal(0, libc::PR_SET_NAME as u64)?])?,
                rule([equal(0, SET_ANONYMOUS_NAME)?])?,
                rule([equal(0, GET_AUXILIARY_VECTOR)?])?,
            ],
        ),
        // Asking for limits, not setting them.
        (libc::SYS_prlimit64, vec![rule([condition_wide(2, 0)?])?]),
    ]))
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(conditions.into())?)
}

fn condition(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)?)
}

fn condition_wide(argument: u8, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)?)
}
