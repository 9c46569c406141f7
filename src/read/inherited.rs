//! Descriptors that whoever started the daemon left open. Not a matter of reading files, but it takes a
//! system call that only `unsafe` code can make, and this module alone may hold such code.
#![allow(unsafe_code)]

/// Marks every descriptor above standard error to be closed in programs that the daemon starts. Its own
/// are marked when they are opened; inherited ones are not. False on kernels before Linux 5.11.
pub fn keep_descriptors() -> bool {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed and no memory of ours is touched; a flag is set
    // that takes effect in other programs only.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    answer == 0
}
