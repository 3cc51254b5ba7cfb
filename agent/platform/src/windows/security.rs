//! Users and what they may do: who runs a process, who owns a file, and access lists for what is created.

mod ffi;

use std::io;
use std::os::windows::io::BorrowedHandle;
use std::path::Path;

pub(super) use ffi::Descriptor;
use ffi::{Sid, Token};

/// What the user of another process may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// It runs as LocalSystem, or as an administrator and is elevated.
    pub(super) administrator: bool,
    /// Its user is that of this process.
    pub(super) owner: bool,
}

/// The rights of a process.
pub(super) fn rights(process: BorrowedHandle<'_>) -> io::Result<Rights> {
    let token = Token::of(process)?;
    let user = token.user()?;
    Ok(Rights {
        administrator: user == Sid::local_system()? || token.has_group(&Sid::administrators()?)?,
        owner: user == Token::own()?.user()?,
    })
}

/// The SID of the user who runs another process, as text.
pub(super) fn user(process: BorrowedHandle<'_>) -> io::Result<String> {
    Token::of(process)?.user()?.text()
}

/// The SID of the user who runs this process, as text.
pub(super) fn own_user() -> io::Result<String> {
    Token::own()?.user()?.text()
}

/// Whether this process runs as LocalSystem, or as an administrator and is elevated.
pub(super) fn is_administrator() -> io::Result<bool> {
    let token = Token::own()?;
    Ok(token.user()? == Sid::local_system()? || token.has_group(&Sid::administrators()?)?)
}

/// Whether this process runs as LocalSystem, as services do.
pub(super) fn is_local_system() -> io::Result<bool> {
    Ok(Token::own()?.user()? == Sid::local_system()?)
}

/// Gives a folder an access list, and what is in it inherits it, unless it has it already. Whether it had another one.
pub(super) fn correct_access(path: &Path, wanted: &Descriptor) -> io::Result<bool> {
    // Windows adds that what is inside inherits it.
    if ffi::access_of(path)?.replacen("D:PAI", "D:P", 1) == wanted.text()? {
        return Ok(false);
    }
    ffi::set_access(path, wanted)?;
    Ok(true)
}

/// Whether the owner of a file or folder is LocalSystem, the group of administrators, or the user who runs this
/// process.
pub(super) fn is_trustworthy(path: &Path) -> io::Result<bool> {
    let owner = ffi::owner(path)?;
    Ok(owner == Sid::local_system()? || owner == Sid::administrators()? || owner == Token::own()?.user()?)
}

/// Whether the owner of an open pipe is LocalSystem or the group of administrators. An ordinary user may read that, while the
/// process of a service may not be examined.
pub(super) fn is_pipe_of_administrators(pipe: BorrowedHandle<'_>) -> io::Result<bool> {
    let owner = ffi::pipe_owner(pipe)?;
    Ok(owner == Sid::local_system()? || owner == Sid::administrators()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_users_have_their_documented_sids() {
        // Microsoft, "Well-known SIDs".
        assert_eq!(Sid::local_system().unwrap().text().unwrap(), "S-1-5-18");
        assert_eq!(Sid::administrators().unwrap().text().unwrap(), "S-1-5-32-544");
        assert_ne!(Sid::local_system().unwrap(), Sid::administrators().unwrap());
    }

    #[test]
    fn own_process_runs_as_owner() {
        use std::os::windows::io::AsHandle as _;
        let process = crate::os::process::Process::open(std::process::id()).unwrap();
        assert!(rights(process.as_handle()).unwrap().owner);
        assert!(own_user().unwrap().starts_with("S-1-5-"));
    }

    #[test]
    fn own_file_is_trustworthy_and_missing_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert_eq!(is_trustworthy(&file).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs_err::write(&file, "x").unwrap();
        assert!(is_trustworthy(&file).unwrap());
    }

    #[test]
    fn malformed_access_list_is_an_error() {
        assert!(Descriptor::parse("D:P(A;OICI;FA;;;SY)").is_ok());
        assert!(Descriptor::parse("no access list").is_err());
    }
}
