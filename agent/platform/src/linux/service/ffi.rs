//! What systemd hands over only as the number of a file descriptor.
#![expect(unsafe_code, reason = "an ffi.rs file takes what is outside the type system")]

use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Takes a descriptor that systemd passed to this process (`sd_listen_fds(3)`), if there is one under that number.
pub(super) fn take(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the number is not -1; `F_GETFD` looks at it and fails if nothing is open there.
    let is_open = nix::fcntl::fcntl(unsafe { BorrowedFd::borrow_raw(number) }, nix::fcntl::F_GETFD).is_ok();
    // SAFETY: it is open, systemd opened it for this process, and the only caller takes each number once.
    is_open.then(|| unsafe { OwnedFd::from_raw_fd(number) })
}
