//! Reading a file of the user's own.

use std::io::{self, Read as _};
use std::path::Path;

use policy_schema::raw::{ReadError, ReadErrorKind};
use policy_schema::read::MAXIMUM_BYTES;

/// The bytes of a file, if there is one and it is not too large.
pub(crate) fn read_file(path: &Path) -> Option<Result<Vec<u8>, ReadError>> {
    let mut bytes = Vec::new();
    let file = fs_err::File::open(path);
    match file.and_then(|file| file.take(MAXIMUM_BYTES + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 > MAXIMUM_BYTES => {
            Some(Err(ReadError::new(ReadErrorKind::TooLarge, format!("has more than {MAXIMUM_BYTES} bytes"))))
        }
        Ok(_) => Some(Ok(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(ReadError::new(ReadErrorKind::Unreadable, error.to_string()))),
    }
}
