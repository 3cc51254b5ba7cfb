//! Why a text is refused, in words.

use url::Url;

use super::advice;
use super::format::{Format, Reason};
use crate::message::{excerpt, without_query};
use crate::raw::Notation;
use crate::text;

impl Reason {
    /// The refused text as a message shows it. An address with a password in it is not repeated.
    pub(super) fn shown(self, text: &str, format: Format) -> String {
        let address = matches!(format, Format::Issuer | Format::Url | Format::RedirectUri | Format::ProxyUrl);
        if self == Self::Credentials || (address || text.contains("://")) && text.contains('@') {
            return "an address with a user name or password in it".to_owned();
        }
        let shown = format!("`{}`", excerpt(&without_query(text)));
        match self {
            Self::Character(odd) => format!("{shown} with {odd}"),
            Self::Placeholder => {
                let part = text::placeholder(text).unwrap_or(text);
                format!("{shown}: `{}` is a placeholder that was not filled in", excerpt(part))
            }
            Self::Padded => format!("{shown} with spaces around it"),
            Self::Empty => "an empty text".to_owned(),
            Self::TooLong | Self::NotEncrypted | Self::Credentials | Self::Extra | Self::Form => shown,
        }
    }

    /// The same for a text that may not be shown.
    pub(super) fn without_text(self) -> String {
        match self {
            Self::Empty => "an empty text".to_owned(),
            Self::TooLong => "one that is too long".to_owned(),
            Self::Padded => "one with spaces around it".to_owned(),
            Self::Character(odd) => format!("one with {odd}"),
            Self::Placeholder => "a placeholder that was not filled in".to_owned(),
            Self::NotEncrypted | Self::Credentials | Self::Extra | Self::Form => "something else".to_owned(),
        }
    }

    /// What to do about a text that may not be shown.
    pub(super) fn hint_without_text(self, text: &str, notation: Notation) -> Option<String> {
        match self {
            Self::Form if text.to_ascii_lowercase().starts_with("bearer ") => {
                Some("leave out `Bearer`; Steward adds it".to_owned())
            }
            Self::Empty | Self::Padded | Self::Character(_) | Self::Placeholder => {
                self.hint("", Format::Line, notation)
            }
            Self::TooLong | Self::NotEncrypted | Self::Credentials | Self::Extra | Self::Form => None,
        }
    }

    pub(super) fn hint(self, text: &str, format: Format, notation: Notation) -> Option<String> {
        let hint = match self {
            Self::Empty => advice::for_empty(notation),
            Self::Form => return by_format(text, format),
            Self::TooLong if format == Format::Certificate => return by_format(text, format),
            Self::TooLong => return None,
            Self::Padded => "remove the spaces around it".to_owned(),
            Self::Character(odd) => match odd.character {
                ' ' => "remove the space".to_owned(),
                '\n' | '\r' => "remove the line break".to_owned(),
                '\u{2018}'..='\u{201f}' | '"' | '\'' | '`' => "remove the quotes in it".to_owned(),
                '\u{2010}'..='\u{2014}' | '\u{2212}' => "use a plain hyphen (-)".to_owned(),
                '\u{f000}' => "this setting has one value: remove the rest".to_owned(),
                character if text::is_invisible(character) => {
                    "delete that character, which cannot be seen; if in doubt, type the value again"
                        .to_owned()
                }
                _ => "replace that character; if in doubt, type the value again".to_owned(),
            },
            Self::Placeholder if text.starts_with('%') && format == Format::Application => {
                "write the path itself: variables are not replaced, because the agent's are not the user's"
                    .to_owned()
            }
            Self::Placeholder => {
                "write the real value, or let the MDM or the template tool fill it in".to_owned()
            }
            Self::NotEncrypted => "use https".to_owned(),
            Self::Credentials => "remove user name and password from the URL".to_owned(),
            Self::Extra => "remove everything from `?` or `#` on".to_owned(),
        };
        Some(hint)
    }
}

/// What to do about a text that is not of its format, as far as the mistake is a usual one.
fn by_format(text: &str, format: Format) -> Option<String> {
    let shown = |text: &str| excerpt(&without_query(text));
    let bare =
        |text: &str| text.trim_start_matches("*.").trim_end_matches('.').trim_start_matches('@').to_owned();
    match format {
        Format::Version => {
            let digits = text.trim_start_matches(['v', 'V']);
            let mut numbers: Vec<&str> = digits.split('.').collect();
            let plain =
                numbers.iter().all(|one| !one.is_empty() && one.bytes().all(|byte| byte.is_ascii_digit()));
            if !plain || numbers.len() > 4 {
                return text.starts_with(['v', 'V']).then(|| "leave out the `v`".to_owned());
            }
            numbers.resize(3, "0");
            Some(format!("write {}", numbers.join(".")))
        }
        Format::Domain if text.contains('@') && !text.starts_with('@') => {
            Some("write only the part after the @".to_owned())
        }
        Format::Domain if text.starts_with("*.") => Some(format!(
            "subdomains must be listed one by one; `{}` allows that domain itself",
            shown(&bare(text))
        )),
        Format::Domain => {
            let bare = bare(text);
            (bare != text && Format::Domain.check(&bare).is_ok()).then(|| format!("write {}", shown(&bare)))
        }
        Format::Host if text == "<local>" => Some(
            "there is no short form for names without a dot: write each host, or a domain with a leading dot"
                .to_owned(),
        ),
        Format::Host if text.starts_with('*') => {
            let domain = format!(".{}", text.trim_start_matches(['*', '.']));
            (Format::Host.check(&domain).is_ok())
                .then(|| format!("write {}, with a leading dot", shown(&domain)))
        }
        Format::Host => match text.split_once('/') {
            Some((address, bits))
                if address.parse::<std::net::IpAddr>().is_ok() && bits.parse::<u8>().is_ok() =>
            {
                Some("address ranges are not supported: write each address, or the hosts' domain".to_owned())
            }
            _ => {
                let host = text
                    .split_once("://")
                    .map_or(text, |(_, rest)| rest)
                    .split('/')
                    .next()
                    .unwrap_or_default();
                let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
                (host != text && Format::Host.check(host).is_ok())
                    .then(|| format!("write only the host, without scheme, port and path: {}", shown(host)))
            }
        },
        Format::ProxyUrl => {
            let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
            let url = Url::parse(&with_scheme).ok()?;
            if url.path() != "/" {
                return Some(
                    "write only scheme, host and port; a proxy auto-configuration file (PAC) is not supported".to_owned(),
                );
            }
            (Format::ProxyUrl.check(&with_scheme).is_ok() && with_scheme != text)
                .then(|| format!("write {}", shown(&with_scheme)))
        }
        Format::Issuer | Format::Url if !text.contains("://") && !text.contains('@') => {
            Some(format!("write https://{}", shown(text.trim_start_matches('/'))))
        }
        Format::Certificate => Some(about_certificate(text).to_owned()),
        Format::Line
        | Format::ClientId
        | Format::ClientSecret
        | Format::BearerToken
        | Format::Issuer
        | Format::Url
        | Format::RedirectUri
        | Format::Scope
        | Format::Name
        | Format::Application
        | Format::Window => None,
    }
}

fn about_certificate(text: &str) -> &'static str {
    if text.contains("PRIVATE KEY") {
        "this is a private key: remove it from the policy and replace the key, because every device could read it"
    } else if text.contains("BEGIN TRUSTED CERTIFICATE") {
        "this is OpenSSL's trusted form; `openssl x509 -in FILE` prints the usual form"
    } else if text.contains("BEGIN CERTIFICATE REQUEST") {
        "this is a certificate signing request, not a certificate"
    } else if text.contains("BEGIN PKCS7") || text.contains("BEGIN CMS") {
        "`openssl pkcs7 -print_certs -in FILE` prints the certificates in it"
    } else if text.contains("\\n") {
        "`\\n` is not a line break here: in TOML use three apostrophes around the certificate and real line breaks"
    } else if text.starts_with('/') || text.contains(":\\") || text.len() < 200 && text.contains('.') {
        "put the certificate itself here, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, not its path"
    } else if text.starts_with("MII") {
        "put -----BEGIN CERTIFICATE----- before it and -----END CERTIFICATE----- after it"
    } else {
        "it begins with -----BEGIN CERTIFICATE----- and ends with -----END CERTIFICATE-----; it may be cut off"
    }
}
