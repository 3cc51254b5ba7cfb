//! What `pkgutil --check-signature` of macOS prints (pkgutil(1)).

use std::io;

use crate::signature::Signature;

/// The status of a package that a developer signed for distribution outside the store.
const DEVELOPER: &str = "signed by a developer certificate issued by Apple for distribution";

/// Reads it.
pub(crate) fn signature(said: &str) -> io::Result<Signature> {
    let lines = || said.lines().map(str::trim);
    let Some(status) = lines().find_map(|line| line.strip_prefix("Status: ")) else {
        let text = said.lines().next().unwrap_or("nothing");
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("pkgutil says {text}")));
    };
    if status == "no signature" {
        return Ok(Signature::Unsigned);
    }
    if status != DEVELOPER {
        return Ok(Signature::Invalid(format!("pkgutil says: {status}")));
    }
    // The first certificate is the signer's: `1. Developer ID Installer: Example Corp (A1B2C3D4E5)`.
    let signer = lines().find_map(|line| line.strip_prefix("1. Developer ID Installer: "));
    let team = signer.and_then(|signer| signer.strip_suffix(')')?.rsplit_once('(')).map(|(_, team)| team);
    Ok(match team.filter(|team| team.len() == 10 && team.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        Some(team) => Signature::By(team.to_owned()),
        None => Signature::Invalid("its certificate has no team ID".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As macOS 14 printed it, with another name.
    const SIGNED: &str = "Package \"example.pkg\":
   Status: signed by a developer certificate issued by Apple for distribution
   Notarization: trusted by the Apple notary service
   Signed with a trusted timestamp on: 2024-02-16 21:42:52 +0000
   Certificate Chain:
    1. Developer ID Installer: Example (Holding) Inc. (A1B2C3D4E5)
       Expires: 2026-07-27 18:27:29 +0000
       SHA256 Fingerprint:
           78 2F E1 18 5F A1 AD 68 AD 25 0B A9 4D 21 DC BB 0D 8E 47 C6 E4 1D
           FE FB AB 05 41 33 4C 33 1D 43
       ------------------------------------------------------------------------
    2. Developer ID Certification Authority
       Expires: 2027-02-01 22:12:15 +0000
       ------------------------------------------------------------------------
    3. Apple Root CA
       Expires: 2035-02-09 21:40:36 +0000
";

    #[test]
    fn package_that_a_developer_signed_has_the_team_of_the_first_certificate() {
        assert_eq!(signature(SIGNED).unwrap(), Signature::By("A1B2C3D4E5".to_owned()));
    }

    #[test]
    fn nothing_but_the_status_and_the_first_certificate_makes_a_package_trusted() {
        assert_eq!(signature("Package \"a.pkg\":\n   Status: no signature\n").unwrap(), Signature::Unsigned);
        for said in [
            SIGNED.replace(
                "signed by a developer certificate issued by Apple for distribution",
                "package is invalid (checksum did not verify)",
            ),
            SIGNED.replace(
                "signed by a developer certificate issued by Apple for distribution",
                "signed by untrusted certificate",
            ),
            SIGNED.replace(
                "signed by a developer certificate issued by Apple for distribution",
                "signed by a certificate that has since expired",
            ),
            SIGNED.replace("for distribution", "for distribution (Development)"),
            SIGNED.replace(" (A1B2C3D4E5)", ""),
            SIGNED.replace("1. Developer ID Installer", "1. Apple Development"),
            // A name that looks like a team.
            SIGNED.replace("Example (Holding) Inc. (A1B2C3D4E5)", "(A1B2C3D4E5) Inc."),
        ] {
            assert!(matches!(signature(&said).unwrap(), Signature::Invalid(_)), "{said}");
        }
    }

    #[test]
    fn output_without_a_status_is_an_error() {
        for said in ["", "pkgutil: no such file\n", "Package \"Status: no signature\":\n"] {
            assert!(signature(said).is_err(), "{said}");
        }
    }
}
