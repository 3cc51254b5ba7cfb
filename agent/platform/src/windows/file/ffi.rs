//! What Windows offers for files only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::ffi::OsString;
use std::io;
use std::os::windows::ffi::OsStringExt as _;
use std::os::windows::io::{AsRawHandle as _, BorrowedHandle};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, CreateDirectoryW, FILE_ID_INFO, FILE_NAME_NORMALIZED, FileIdInfo,
    GetDiskFreeSpaceExW, GetFileInformationByHandle, GetFileInformationByHandleEx, GetFinalPathNameByHandleW,
};

use super::super::ffi::{LONGEST_PATH, succeeded, units, wide};
use super::super::security::Descriptor;

/// The serial number of a volume, and the number of a file in it.
pub(super) type Numbers = (u64, u128);

/// The numbers of an open file, with 128 bits for the file (NTFS, ReFS).
pub(super) fn numbers(file: BorrowedHandle<'_>) -> io::Result<Numbers> {
    let mut information = FILE_ID_INFO::default();
    // SAFETY: a borrowed handle is open. The buffer is of the type that `FileIdInfo` means, lives as long as the call
    // and has the length that is passed.
    succeeded(unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            FileIdInfo,
            (&raw mut information).cast(),
            units(size_of::<FILE_ID_INFO>()),
        )
    })?;
    Ok((information.VolumeSerialNumber, u128::from_le_bytes(information.FileId.Identifier)))
}

/// The numbers of an open file where its file system has 64 bits for a file.
pub(super) fn short_numbers(file: BorrowedHandle<'_>) -> io::Result<Numbers> {
    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: a borrowed handle is open. The buffer is of the type that is written, and lives as long as the call.
    succeeded(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut information) })?;
    let number = u64::from(information.nFileIndexHigh) << 32 | u64::from(information.nFileIndexLow);
    Ok((information.dwVolumeSerialNumber.into(), number.into()))
}

/// The path of an open file with every link resolved, in the form `\\?\C:\...` or `\\?\UNC\server\share\...`.
pub(super) fn final_path(file: BorrowedHandle<'_>) -> io::Result<PathBuf> {
    let mut path = vec![0_u16; LONGEST_PATH];
    // SAFETY: a borrowed handle is open. The buffer lives as long as the call and is not shorter than is passed.
    let length = unsafe {
        GetFinalPathNameByHandleW(
            file.as_raw_handle(),
            path.as_mut_ptr(),
            units(path.len()),
            FILE_NAME_NORMALIZED,
        )
    };
    // 0 is a failure; a length beyond the buffer means that the path does not fit.
    match path.get(..length as usize) {
        Some(path) if !path.is_empty() => Ok(OsString::from_wide(path).into()),
        Some(_) => Err(io::Error::last_os_error()),
        None => Err(io::Error::new(io::ErrorKind::InvalidFilename, "its path is too long")),
    }
}

/// Creates one folder with an access list.
pub(super) fn create_folder(path: &Path, access: &Descriptor) -> io::Result<()> {
    let (path, attributes) = (wide(path), access.attributes());
    // SAFETY: the path ends in NUL; it, the attributes and the descriptor that these borrow live as long as the call.
    succeeded(unsafe { CreateDirectoryW(path.as_ptr(), attributes.as_ptr()) })
}

/// How many bytes this process may still write to the disk of a folder.
pub(in crate::os) fn free_space(folder: &Path) -> io::Result<u64> {
    let (folder, mut free) = (wide(folder), 0);
    // SAFETY: the path ends in NUL and lives as long as the call; the number is a local variable.
    succeeded(unsafe { GetDiskFreeSpaceExW(folder.as_ptr(), &raw mut free, null_mut(), null_mut()) })?;
    Ok(free)
}
