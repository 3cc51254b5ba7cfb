//! What a text must look like, by the field's own rules.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::{Host, Url};

use crate::loopback::is_loopback;
use crate::message::without_query;

/// The formats of texts. [`Format::check`] decides; [`Format::expectation`] says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line of 1 to 2048 characters.
    Line,
    /// An issuer identifier (OpenID Connect Discovery 1.0, section 3): https, no query, no fragment.
    Issuer,
    /// An https URL; http only on loopback, where a certificate proves nothing.
    Url,
    /// A loopback redirect URI (RFC 8252, section 7.3) with its port.
    RedirectUri,
    /// Scheme, host and port of a proxy, without credentials.
    ProxyUrl,
    /// A host name, a domain with a leading dot, or an address.
    Host,
    /// A DNS domain.
    Domain,
    /// A scope token (RFC 6749, section 3.3).
    Scope,
    /// A version such as 2.1.0 (semver.org).
    Version,
    /// Lower-case letters, digits and hyphens.
    Name,
    /// An absolute path, or the name of a managed app.
    Application,
    /// Times of day, with days of the week before them if it is not every day.
    Window,
    /// One certificate in PEM (RFC 7468).
    Certificate,
}

/// Why a text is not of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing in it.
    Empty,
    /// More than the longest allowed text.
    TooLong,
    /// White space before or behind, or characters that cannot be seen.
    WhiteSpace,
    /// http to a host that is not this device.
    NotEncrypted,
    /// User name or password inside a URL.
    Credentials,
    /// A `#` part, or a query where none may be.
    Extra,
    /// Anything else.
    Form,
}

const MAXIMUM_LINE: usize = 2048;
const MAXIMUM_CERTIFICATE: usize = 16 * 1024;

impl Format {
    /// What is expected, to stand after the word `expected`.
    #[must_use]
    pub fn expectation(self) -> &'static str {
        match self {
            Self::Line => "a text of 1 to 2048 characters on one line",
            Self::Issuer => "an https URL without query and fragment",
            Self::Url => "an https URL (http only for this device itself)",
            Self::RedirectUri => "a loopback address with its port, as `http://localhost:18080`",
            Self::ProxyUrl => "the address of a proxy, as `http://proxy.example.com:3128`",
            Self::Host => "a host name, a domain with a leading dot, or an IP address",
            Self::Domain => "a domain, as `example.com`",
            Self::Scope => "a scope without spaces, as `openid`",
            Self::Version => "a version of three numbers, as `2.1.0`",
            Self::Name => "a name of lower-case letters, digits and hyphens",
            Self::Application => "an absolute path of a program, or the name of a managed app",
            Self::Window => "times of day, as `22:00-05:00` or `Mon-Fri 22:00-05:00`",
            Self::Certificate => "one certificate in PEM",
        }
    }

    /// The most characters that a text may have.
    #[must_use]
    pub fn longest(self) -> usize {
        if self == Self::Certificate { MAXIMUM_CERTIFICATE } else { MAXIMUM_LINE }
    }

    /// What every text of this format matches in its usual spelling, as a regular expression of ECMA-262, for forms and
    /// schemas that cannot ask [`Format::check`].
    #[must_use]
    pub fn pattern(self) -> Option<&'static str> {
        Some(match self {
            Self::Line => return None,
            Self::Issuer => r"^https?://[^/?#\s@]+(/[^?#\s]*)?$",
            Self::Url => r"^https?://[^/?#\s@]+([/?][^#\s]*)?$",
            Self::RedirectUri => r"^http://(localhost|127\.[0-9.]+|\[::1\]):[0-9]+(/[^?#\s]*)?$",
            Self::ProxyUrl => r"^https?://[^/?#\s@]+/?$",
            Self::Host => r"^[^\s/]+$",
            Self::Domain => r"^[^\s/@:]+$",
            Self::Scope => r"^[^\s\x22\x5c]+$",
            Self::Version => r"^[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$",
            Self::Name => "^[a-z0-9-]{1,64}$",
            Self::Application => r"^(/.*|[A-Za-z]:\x5c.*|[a-z0-9-]{1,64})$",
            Self::Window => "^([A-Z][A-Za-z,-]* )?[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$",
            Self::Certificate => {
                r"^\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*$"
            }
        })
    }

    /// Whether a text is of this format.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(self, text: &str) -> Result<(), Reason> {
        if self == Self::Certificate {
            return check_certificate(text);
        }
        if text.is_empty() {
            return Err(Reason::Empty);
        }
        if text.chars().count() > MAXIMUM_LINE {
            return Err(Reason::TooLong);
        }
        if text.trim() != text || text.chars().any(is_invisible) {
            return Err(Reason::WhiteSpace);
        }
        match self {
            Self::Line | Self::Certificate => Ok(()),
            Self::Issuer => check_url(text).and_then(|url| when(url.query().is_none(), Reason::Extra)),
            Self::Url => check_url(text).map(drop),
            Self::RedirectUri => check_url(text).and_then(|url| {
                when(
                    url.scheme() == "http"
                        && is_loopback(&url)
                        && is_listener(&url)
                        && url.port().is_some_and(|port| port != 0)
                        && url.query().is_none(),
                    Reason::Form,
                )
            }),
            Self::ProxyUrl => {
                let url = Url::parse(text).map_err(|_| Reason::Form)?;
                when(url.username().is_empty() && url.password().is_none(), Reason::Credentials)?;
                when(
                    matches!(url.scheme(), "http" | "https")
                        && url.path() == "/"
                        && url.query().is_none()
                        && url.fragment().is_none(),
                    Reason::Form,
                )
            }
            Self::Host => {
                let name = text.strip_prefix('.').unwrap_or(text);
                let bracketless = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                when(
                    bracketless.unwrap_or(name).parse::<std::net::IpAddr>().is_ok() || is_domain(name),
                    Reason::Form,
                )
            }
            Self::Domain => when(is_domain(text), Reason::Form),
            Self::Scope => {
                when(text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)), Reason::Form)
            }
            Self::Version => text.parse::<semver::Version>().map(drop).map_err(|_| Reason::Form),
            Self::Name => when(is_name(text), Reason::Form),
            Self::Application => {
                let windows = text.as_bytes().get(1..3) == Some(b":\\");
                when(text.starts_with('/') || windows || is_name(text), Reason::Form)
            }
            Self::Window => when(is_window(text), Reason::Form),
        }
    }
}

impl Reason {
    /// The refused text as a message shows it. An address with a password in it is not repeated.
    pub(super) fn shown(self, text: &str, format: Format) -> String {
        let address = matches!(format, Format::Issuer | Format::Url | Format::RedirectUri | Format::ProxyUrl);
        if self == Self::Credentials || (address || text.contains("://")) && text.contains('@') {
            "an address with a user name or password in it".to_owned()
        } else {
            format!("`{}`", crate::message::excerpt(&without_query(text)))
        }
    }

    pub(super) fn hint(self, text: &str, format: Format) -> Option<String> {
        let hint = match self {
            Self::Empty => "remove the setting, or give it a value".to_owned(),
            Self::Form if format == Format::Version && text.starts_with('v') => {
                "leave out the `v`".to_owned()
            }
            Self::Form if format == Format::Domain && text.contains('@') => {
                "write only the part after the @".to_owned()
            }
            Self::Form if matches!(format, Format::Issuer | Format::Url) && !text.contains("://") => {
                if text.contains('@') {
                    return None;
                }
                format!(
                    "write https://{}",
                    crate::message::excerpt(&without_query(text.trim_start_matches('/')))
                )
            }
            Self::TooLong | Self::Form => return None,
            Self::WhiteSpace => {
                "remove spaces around it, line breaks, and characters that cannot be seen".to_owned()
            }
            Self::NotEncrypted => "use https".to_owned(),
            Self::Credentials => "remove user name and password from the URL".to_owned(),
            Self::Extra => "remove the part from `?` or `#` on".to_owned(),
        };
        Some(hint)
    }
}

fn when(condition: bool, otherwise: Reason) -> Result<(), Reason> {
    if condition { Ok(()) } else { Err(otherwise) }
}

fn check_url(text: &str) -> Result<Url, Reason> {
    let url = Url::parse(text).map_err(|_| Reason::Form)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Reason::Credentials);
    }
    if url.fragment().is_some() {
        return Err(Reason::Extra);
    }
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(Reason::NotEncrypted),
        _ => Err(Reason::Form),
    }
}

/// Whether a loopback URL has a host that programs listen at and that browsers never ask DNS for (RFC 8252, section 7.3):
/// an address or `localhost` itself, no name below it.
fn is_listener(loopback: &Url) -> bool {
    matches!(loopback.host_str(), Some("localhost" | "[::1]"))
        || matches!(loopback.host(), Some(Host::Ipv4(_)))
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|character| character.is_alphanumeric() || character == '-')
        })
}

fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_window(text: &str) -> bool {
    let is_day = |day: &str| ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].contains(&day);
    let is_time = |time: &str| time.len() == 5 && time.parse::<jiff::civil::Time>().is_ok();
    let (days, times) = text.rsplit_once(' ').map_or((None, text), |(days, times)| (Some(days), times));
    let days_fit = days.is_none_or(|days| {
        days.split(',').all(|part| part.split_once('-').map_or(is_day(part), |(a, b)| is_day(a) && is_day(b)))
    });
    days_fit && times.split_once('-').is_some_and(|(from, to)| is_time(from) && is_time(to) && from != to)
}

fn check_certificate(text: &str) -> Result<(), Reason> {
    if text.len() > MAXIMUM_CERTIFICATE {
        return Err(Reason::TooLong);
    }
    let body = text
        .trim()
        .strip_prefix("-----BEGIN CERTIFICATE-----")
        .and_then(|rest| rest.strip_suffix("-----END CERTIFICATE-----"))
        .ok_or(Reason::Form)?;
    // Forms that take one line for each make spaces of line breaks, or nothing.
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| Reason::Form)?;
    when(is_one_sequence(&der), Reason::Form)
}

/// Whether bytes are one SEQUENCE of ASN.1 to the last byte, as every certificate is (X.690, section 8.1.3).
fn is_one_sequence(der: &[u8]) -> bool {
    let length = match der {
        [0x30, length @ ..=0x80, ..] => Some(2 + usize::from(*length)),
        [0x30, 0x81, length, ..] => Some(3 + usize::from(*length)),
        [0x30, 0x82, high, low, ..] => Some(4 + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    };
    length == Some(der.len()) && der.len() > 2
}

/// What cannot be seen, or what turns the order of what is seen: controls, line separators, signs for the direction of
/// writing, and what Unicode calls no characters, which XML and YAML refuse.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fdd0}'..='\u{fdef}')
        || u32::from(character) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_text_passes_and_invalid_text_has_its_reason() {
        use Format::{
            Application, Certificate, Domain, Host, Issuer, Line, ProxyUrl, RedirectUri, Scope, Version,
            Window,
        };
        let cases: &[(Format, &str, Result<(), Reason>)] = &[
            (Line, "Example Corp", Ok(())),
            (Line, "", Err(Reason::Empty)),
            (Line, " padded", Err(Reason::WhiteSpace)),
            (Line, "two\nlines", Err(Reason::WhiteSpace)),
            (Issuer, "https://login.example.com/v2.0", Ok(())),
            (Issuer, "https://login.example.com/?x=1", Err(Reason::Extra)),
            (Issuer, "https://login.example.com/#a", Err(Reason::Extra)),
            (Issuer, "login.example.com", Err(Reason::Form)),
            (Format::Url, "http://127.0.0.1:8080/x", Ok(())),
            (Format::Url, "http://[::1]:8080/x", Ok(())),
            (Format::Url, "http://app.localhost:8080/x", Ok(())),
            (Format::Url, "http://[::ffff:127.0.0.1]/x", Ok(())),
            (Format::Url, "http://localhost.example.com/", Err(Reason::NotEncrypted)),
            (Format::Url, "https://user:pw@example.com/", Err(Reason::Credentials)),
            (Format::Url, "ftp://example.com/", Err(Reason::Form)),
            (RedirectUri, "http://localhost:18080", Ok(())),
            (RedirectUri, "http://[::1]:18080/callback", Ok(())),
            (RedirectUri, "http://app.localhost:18080", Err(Reason::Form)),
            (RedirectUri, "http://localhost.:18080", Err(Reason::Form)),
            (RedirectUri, "http://[::ffff:127.0.0.1]:18080", Err(Reason::Form)),
            (RedirectUri, "http://localhost", Err(Reason::Form)),
            (RedirectUri, "https://localhost:18080", Err(Reason::Form)),
            (RedirectUri, "http://example.com:18080", Err(Reason::NotEncrypted)),
            (ProxyUrl, "http://proxy.example.com:3128", Ok(())),
            (ProxyUrl, "http://me:pw@proxy.example.com:3128", Err(Reason::Credentials)),
            (ProxyUrl, "socks5://proxy.example.com", Err(Reason::Form)),
            (Host, ".corp.example.com", Ok(())),
            (Host, "10.0.0.1", Ok(())),
            (Host, "[::1]", Ok(())),
            (Host, "a b", Err(Reason::Form)),
            (Domain, "example.com", Ok(())),
            (Domain, "@example.com", Err(Reason::Form)),
            (Domain, "-bad.com", Err(Reason::Form)),
            (Scope, "offline_access", Ok(())),
            (Scope, "a\"b", Err(Reason::Form)),
            (Version, "2.1.0", Ok(())),
            (Version, "2.1", Err(Reason::Form)),
            (Application, "/usr/bin/app", Ok(())),
            (Application, "C:\\Program Files\\app.exe", Ok(())),
            (Application, "amazon-quick", Ok(())),
            (Application, "relative/path", Err(Reason::Form)),
            (Window, "22:00-05:00", Ok(())),
            (Window, "Mon-Fri 22:00-05:00", Ok(())),
            (Window, "Sat,Sun 00:00-23:59", Ok(())),
            (Window, "22:00", Err(Reason::Form)),
            (Window, "Someday 22:00-05:00", Err(Reason::Form)),
            (Window, "25:00-26:00", Err(Reason::Form)),
            (Certificate, "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n", Ok(())),
            (Certificate, "-----BEGIN CERTIFICATE-----MAMC AQE=-----END CERTIFICATE-----", Ok(())),
            (
                Certificate,
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                Err(Reason::Form),
            ),
            (Line, "reads \u{202e}backwards", Err(Reason::WhiteSpace)),
            (Line, "two\u{2028}lines", Err(Reason::WhiteSpace)),
            (Line, "no character: \u{ffff}", Err(Reason::WhiteSpace)),
            (Certificate, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", Err(Reason::Form)),
        ];
        for (format, text, expected) in cases {
            assert_eq!(format.check(text), *expected, "{format:?} {text:?}");
        }
    }

    #[test]
    fn text_of_a_megabyte_is_refused_by_every_format() {
        let huge = "a".repeat(1_000_000);
        for format in [Format::Line, Format::Url, Format::Domain, Format::Certificate] {
            assert!(format.check(&huge).is_err(), "{format:?}");
        }
    }
}
