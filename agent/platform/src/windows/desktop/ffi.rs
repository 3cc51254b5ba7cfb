//! Message boxes.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::io;
use std::path::Path;
use std::ptr::null_mut;

use windows_sys::Win32::System::Threading::GetCurrentThreadId;
use windows_sys::Win32::UI::WindowsAndMessaging::{
    IDCANCEL, IDOK, MB_DEFBUTTON2, MB_ICONINFORMATION, MB_ICONWARNING, MB_OKCANCEL, MB_TOPMOST, MSG,
    MessageBoxW, PM_NOREMOVE, PeekMessageW, PostThreadMessageW, WM_QUIT, WM_USER,
};

use crate::os::ffi::wide;

/// Shows a message box until the user has answered. Gives whether the user agrees.
pub(super) fn message_box(title: &str, text: &str, urgent: bool) -> io::Result<bool> {
    // A NUL would end a text early.
    let plain = |text: &str| wide(Path::new(&text.replace('\0', " ")));
    let (title, text) = (plain(title), plain(text));
    let icon = if urgent { MB_ICONWARNING | MB_TOPMOST } else { MB_ICONINFORMATION };
    // SAFETY: both texts end in NUL and live until it returns; no window owns it.
    let answer =
        unsafe { MessageBoxW(null_mut(), text.as_ptr(), title.as_ptr(), MB_OKCANCEL | MB_DEFBUTTON2 | icon) };
    match answer {
        IDOK => Ok(true),
        IDCANCEL => Ok(false),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The thread that runs this. It has a message queue from then on, which Windows makes at the first look into it.
pub(super) fn current_thread() -> u32 {
    let mut message = MSG::default();
    // SAFETY: the message is written to, and nothing is taken out of the queue.
    unsafe { PeekMessageW(&raw mut message, null_mut(), WM_USER, WM_USER, PM_NOREMOVE) };
    // SAFETY: it takes nothing and cannot fail.
    unsafe { GetCurrentThreadId() }
}

/// Ends the message loop of a thread, and with it the message box that it shows.
pub(super) fn end_message_loop(thread: u32) {
    // SAFETY: it takes numbers only. A thread that has ended has no queue, which is an error and does no harm; a number that was
    // given to another thread meanwhile belongs to one without a message loop, for this process has no other windows.
    unsafe { PostThreadMessageW(thread, WM_QUIT, 0, 0) };
}
