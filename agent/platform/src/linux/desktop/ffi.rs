//! The descriptor of a connection of libdbus.
#![expect(unsafe_code, reason = "an ffi.rs file takes descriptors of C libraries")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for what arrives at a connection. `fd` is one of a connection that lives.
pub(super) fn watch(fd: RawFd) -> io::Result<AsyncFd<OwnedFd>> {
    if fd < 0 {
        return Err(io::ErrorKind::NotConnected.into());
    }
    // SAFETY: it is no negative number, and is borrowed for this call only. One that is closed is an error of the system.
    let own = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
    // SAFETY: the descriptor stays open and the same for as long as its owner lives, which the result owns.
    Ok(unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }?)
}
