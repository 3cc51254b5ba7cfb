//! Any policy document that an administrator may have: what it is shows in its content, not in its name.
//!
//! A document that sets nothing is an error here: whoever names a file means a policy.

use super::{drop_in, empty, foreign, property_list, registry_file, registry_pol, syntax, utf16};
use crate::problem::Code;
use crate::raw::{RawPolicy, ReadError};

/// Reads a TOML drop-in, a property list, a profile, a .reg file or a Registry.pol. `domain` is the agent's preference domain.
///
/// # Errors
/// It is none of these, and the error says what it seems to be; or it cannot be read as what it is.
pub fn read(bytes: &[u8], domain: &str) -> Result<RawPolicy, ReadError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(empty());
    }
    let mut policy = read_any(bytes, domain)?;
    let explained = policy.remarks.iter().any(|remark| remark.code == Code::PolicyForeign);
    if policy.is_empty() && !explained {
        policy.remarks.push(foreign("no setting of Steward is in it"));
    }
    Ok(policy)
}

fn read_any(bytes: &[u8], domain: &str) -> Result<RawPolicy, ReadError> {
    let utf16 = utf16(bytes);
    let text = match &utf16 {
        Some(text) => text.as_str(),
        None => std::str::from_utf8(&bytes[..bytes.len().min(4096)])
            .unwrap_or_else(|error| std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()),
    };
    let start = text.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '\u{feff}');
    if bytes.starts_with(&registry_pol::HEADER[..4]) {
        return registry_pol::read(bytes);
    }
    if let Some(form) = signed(bytes, start) {
        let hint = format!(
            "remove the signature: `openssl cms -verify -noverify -inform {form} -in FILE -out PROFILE`, or on a Mac \
             `security cms -D -i FILE -o PROFILE`"
        );
        return Err(syntax("this is a signed profile", None).hint(hint));
    }
    if registry_file::HEADERS.iter().any(|header| start.starts_with(header)) {
        return registry_file::read(&text_of(bytes, utf16.as_deref())?);
    }
    if start.starts_with("{\\rtf") {
        let hint = "save it as plain text: in TextEdit, Format > Make Plain Text";
        return Err(syntax("this is a document with formatting (RTF), not plain text", Some(hint)));
    }
    if start.starts_with("Computer\r")
        || start.starts_with("Computer\n")
        || start.starts_with("User\n")
        || start.starts_with("User\r")
    {
        let hint = "convert it to a Registry.pol: `LGPO.exe /r FILE /w Registry.pol`";
        return Err(syntax("this is the text form of LGPO.exe, not a Registry.pol", Some(hint)));
    }
    // Parts of a property list, as Intune takes them.
    if start.starts_with("<key>") {
        let whole = format!("<plist><dict>{start}</dict></plist>");
        return property_list::read_document(whole.as_bytes(), domain);
    }
    let is_xml = start.starts_with('<') && !start.starts_with("<<<<<<<");
    if is_xml || bytes.starts_with(b"bplist") || bytes.starts_with(b"<\0") || bytes.starts_with(b"\0<") {
        return property_list::read_document(bytes, domain);
    }
    if start.starts_with('{') && start.contains(" = ") && start.contains(';') && !start.contains("\":") {
        let hint = "convert it: `plutil -convert xml1 FILE`";
        return Err(syntax("this is a property list of the old form (OpenStep)", Some(hint)));
    }
    drop_in::read(bytes)
}

/// The whole text of a document in UTF-16 or UTF-8.
fn text_of<'b>(bytes: &'b [u8], utf16: Option<&'b str>) -> Result<std::borrow::Cow<'b, str>, ReadError> {
    match utf16 {
        Some(text) => Ok(text.into()),
        None => std::str::from_utf8(bytes).map(Into::into).map_err(|_| {
            syntax("the text is neither UTF-16 nor UTF-8", Some("export it again with the registry editor"))
        }),
    }
}

/// The form of a signed document, as OpenSSL calls it (RFC 5652, RFC 8551).
fn signed(bytes: &[u8], start: &str) -> Option<&'static str> {
    if matches!(bytes, [0x30, 0x80..=0x84, ..]) {
        return Some("der");
    }
    if ["-----BEGIN CMS", "-----BEGIN PKCS7", "-----BEGIN PKCS #7"].iter().any(|one| start.starts_with(one)) {
        return Some("pem");
    }
    let head = start.get(..start.len().min(400)).unwrap_or(start).to_ascii_lowercase();
    (head.starts_with("mime-version:") || head.starts_with("content-type:")).then_some("smime")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "dev.steward.agent";

    fn keys(bytes: &[u8]) -> Vec<String> {
        let policy = read(bytes, DOMAIN).unwrap();
        assert_eq!(policy.remarks, [], "{}", String::from_utf8_lossy(bytes));
        policy.enforced.into_keys().collect()
    }

    #[test]
    fn kind_of_document_is_found_from_its_content() {
        let list = "<plist version=\"1.0\"><dict><key>UpdateMode</key><string>off</string></dict></plist>";
        let utf16: Vec<u8> = format!("\u{feff}{list}").encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            b"UpdateMode = \"off\"\n".as_slice(),
            list.as_bytes(),
            b"<key>UpdateMode</key>\n<string>off</string>\n",
            &utf16,
        ] {
            assert_eq!(keys(bytes), ["UpdateMode"]);
        }
        for (bytes, message) in [
            (&b"\x30\x82\x0a\x00"[..], "signed profile"),
            (b"-----BEGIN CMS-----\nMII", "signed profile"),
            (b"MIME-Version: 1.0\nContent-Type: application/pkcs7-mime", "signed profile"),
            (b"Windows Registry Editor Version 5.00\r\n\r\nUpdateMode\r\n", "line 3: "),
            (b"\xff\xfeC\0o\0m\0p\0u\0t\0e\0r\0\r\0\n\0", "LGPO.exe"),
            (b"{\\rtf1\\ansi UpdateMode = \"off\"}", "RTF"),
            (b"{ UpdateMode = off; Scopes = (openid); }", "OpenStep"),
            (b"{\"UpdateMode\": \"off\"}", "JSON"),
            (b"UpdateMode: off", "YAML"),
            (b"<policy/>", "not a property list"),
        ] {
            let error = read(bytes, DOMAIN).unwrap_err();
            assert!(error.message.contains(message), "{}", error.message);
            assert!(error.hint.is_some() || message.contains("list"), "{message}");
        }
        assert_eq!(read(b" \n", DOMAIN).unwrap_err().message, "the file is empty");
    }

    #[test]
    fn document_that_sets_nothing_is_remarked_as_error() {
        for bytes in [&b"# nothing yet\n"[..], b"<plist><dict/></plist>", b"PReg\x01\0\0\0"] {
            let policy = read(bytes, DOMAIN).unwrap();
            assert_eq!(policy.remarks.len(), 1, "{bytes:?}");
            assert!(policy.remarks[0].severity.is_error());
        }
    }
}
