//! The roots of a signed repository as policy names them: which root metadata (TUF, section 4.3) a device begins to trust.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The roots of the two repositories that sign together: `1:` and the SHA-256 of the image repository's root, `+`, and the same of
/// the director's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustedRoots {
    /// Of the repository that says what is authentic.
    pub image: TrustedRoot,
    /// Of the one that says which device runs what.
    pub director: TrustedRoot,
}

/// A file `VERSION.root.json`, by its hash. Later versions are trusted because this one signs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedRoot {
    /// Its version: its name.
    pub version: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// A text names no roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not two roots with `+` between")]
pub struct NoRoots;

impl FromStr for TrustedRoots {
    type Err = NoRoots;

    fn from_str(text: &str) -> Result<Self, NoRoots> {
        let (image, director) = text.split_once('+').ok_or(NoRoots)?;
        Ok(Self { image: image.parse()?, director: director.parse()? })
    }
}

impl FromStr for TrustedRoot {
    type Err = NoRoots;

    fn from_str(text: &str) -> Result<Self, NoRoots> {
        let (version, digest) = text.split_once(':').ok_or(NoRoots)?;
        let is_number = version.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('0');
        if !is_number || digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoRoots);
        }
        let mut sha256 = [0; 32];
        for (byte, pair) in sha256.iter_mut().zip(digest.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NoRoots)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NoRoots)?;
        }
        Ok(Self { version: version.parse().map_err(|_| NoRoots)?, sha256 })
    }
}

impl fmt::Display for TrustedRoot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.version)?;
        self.sha256.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Display for TrustedRoots {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}+{}", self.image, self.director)
    }
}

impl TryFrom<String> for TrustedRoots {
    type Error = NoRoots;

    fn try_from(text: String) -> Result<Self, NoRoots> {
        text.parse()
    }
}

impl From<TrustedRoots> for String {
    fn from(roots: TrustedRoots) -> Self {
        roots.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_read_and_written_alike() {
        let (one, other) = ("ab".repeat(32), "0".repeat(64));
        let text = format!("1:{one}+12:{other}");
        let roots: TrustedRoots = text.parse().unwrap();
        assert_eq!((roots.image.version, roots.director.version, roots.image.sha256[0]), (1, 12, 0xab));
        assert_eq!(roots.to_string(), text);
        for wrong in [
            one.clone(),
            format!("1:{one}"),
            format!("{one}+{other}"),
            format!("0:{one}+1:{other}"),
            format!("1:{one}+:{other}"),
            format!("1:{one}+1:{}", &other[1..]),
            format!("1:{one}+1:{}g", &other[1..]),
            format!("+1:{one}+1:{other}"),
            format!("99999999999999999999:{one}+1:{other}"),
        ] {
            assert_eq!(wrong.parse::<TrustedRoots>(), Err(NoRoots), "{wrong}");
        }
    }
}
