//! Who listens at a TCP port of this device. Portable.

use std::path::PathBuf;

use listeners::Protocol;

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub process: u32,
    /// The name of its program.
    pub name: String,
    /// Where its program lies, if the system says so.
    pub program: Option<PathBuf>,
}

/// The process that listens at a port; `None` if there is none, or it is another user's and the system does not say.
#[must_use]
pub fn holder(port: u16) -> Option<Holder> {
    let found = listeners::get_process_by_port(port, Protocol::TCP).ok()?;
    let program = Some(found.path).filter(|path| !path.is_empty()).map(PathBuf::from);
    Some(Holder { process: found.pid, name: found.name, program })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(windows, ignore = "Wine 8 finds no owner here; on Windows itself it was not tried")]
    fn whoever_listens_is_found_on_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let found = holder(port).unwrap();
            assert_eq!(found.process, std::process::id(), "{address}");
            assert_eq!(found.program.unwrap(), std::env::current_exe().unwrap());
            drop(listener);
            assert_eq!(holder(port), None);
        }
    }
}
