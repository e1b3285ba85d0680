//! What happens at a forbidden system call: a line that names it, and the end.
#![allow(unsafe_code, reason = "a signal handler, and what the kernel tells it")]

use std::io;
use std::mem::MaybeUninit;

/// Exit status of a process that made a forbidden system call, as a shell would show it.
const STATUS: i32 = 128 + libc::SIGSYS;
/// Where the number of the call stands behind the signal's own fields: `si_syscall` of sigaction(2), which libc does
/// not name.
const SYSCALL_OFFSET: usize = 24;

/// From now on a forbidden call is named on standard error before the process ends.
pub(super) fn announce() -> io::Result<()> {
    // SAFETY: all-zero is a valid value of this plain C structure: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = stop as extern "C" fn(i32, *const libc::siginfo_t, *mut libc::c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for, and does only what signal-safety(7) allows.
    match unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn stop(_: i32, info: *const libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a whole siginfo_t, of which the number of the call is at this offset for SIGSYS.
    let number = unsafe { info.byte_add(SYSCALL_OFFSET).cast::<i32>().read() };
    let mut line = *b"baton-ike: forbidden system call 000000; stopped, contexts and SAs stay\n";
    write_number(&mut line[33..39], number);
    // SAFETY: the octets are there for the call. Whether anybody reads them does not matter.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(STATUS) }
}

/// Decimal digits with zeros in front: nothing that allocates is allowed here.
fn write_number(digits: &mut [u8], number: i32) {
    let mut left = number.unsigned_abs();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_digits() {
        let mut digits = *b"......";
        write_number(&mut digits, 435);
        assert_eq!(&digits, b"000435");
    }
}
