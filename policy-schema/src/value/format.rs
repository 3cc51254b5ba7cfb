//! What a text must look like, by the field's own rules.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::{Host, Url};

use crate::loopback::is_loopback;
use crate::roots::TrustedRoots;
use crate::text::{self, OddCharacter};
use crate::version::{Downgrade, Pin};
use crate::window::Window;

/// The formats of texts. [`Format::check`] decides; [`Format::expectation`] says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line of 1 to 2048 characters.
    Line,
    /// A client identifier (RFC 6749, appendix A.1), as providers make them: without spaces and quotes.
    ClientId,
    /// A client secret (RFC 6749, appendix A.2).
    ClientSecret,
    /// A bearer token (RFC 6750, section 2.1): visible ASCII.
    BearerToken,
    /// An issuer identifier (OpenID Connect Discovery 1.0, section 3): https, no query, no fragment.
    Issuer,
    /// An https URL; http only on loopback, where a certificate proves nothing.
    Url,
    /// An address as [`Format::Url`], or the same with the schemes of WebSocket, wss and ws (RFC 6455, section 3).
    WebSocketUrl,
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
    /// The name of a claim (RFC 7519, section 4), as providers make them: visible ASCII without what separates names.
    Claim,
    /// A version such as 2.1.0 (semver.org).
    Version,
    /// A version, or the numbers that a series of versions begins with.
    Pin,
    /// The version that is installed, or a series, and the version to install instead.
    Downgrade,
    /// Two roots of a signed repository ([`TrustedRoots`]).
    TrustedRoots,
    /// An absolute path of a folder or a share, or an https URL.
    UpdateSource,
    /// An absolute path of a file of metrics: `.prom`, as the textfile collectors of Prometheus read it.
    Textfile,
    /// The common name in a certificate, or a team ID of Apple's.
    Publisher,
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
    /// Spaces before or behind.
    Padded,
    /// A character that cannot be seen, or that may not stand there.
    Character(OddCharacter),
    /// A template that was not filled in.
    Placeholder,
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
            Self::ClientId => "a client ID without spaces and special characters",
            Self::ClientSecret => "a client secret of visible ASCII characters",
            Self::BearerToken => "a token of visible ASCII characters without spaces",
            Self::Issuer => "an https URL without query and fragment",
            Self::Url => "an https URL (http only for this device itself)",
            Self::WebSocketUrl => "an https or wss URL (http and ws only for this device itself)",
            Self::RedirectUri => "a loopback address with its port, as `http://localhost:18080`",
            Self::ProxyUrl => "the address of a proxy, as `http://proxy.example.com:3128`",
            Self::Host => "a host name, a domain with a leading dot, or an IP address",
            Self::Domain => "a domain, as `example.com`",
            Self::Scope => "a scope without spaces, as `openid`",
            Self::Claim => "the name of one claim, as `email`",
            Self::Version => "a version of three numbers, as `2.1.0`",
            Self::Pin => "a version, as `2.1.0`, or the beginning of one, as `2.1`",
            Self::Downgrade => "two versions, as `2.1.0 to 2.0.4`",
            Self::TrustedRoots => "two roots with `+` between, each as `1:` and the SHA-256 of its file",
            Self::UpdateSource => "the path of a folder or a share, or an https URL",
            Self::Textfile => "the absolute path of a file whose name ends in `.prom`",
            Self::Publisher => "the name in a publisher's certificate, or a team ID",
            Self::Name => "a name of lower-case letters, digits and hyphens",
            Self::Application => {
                "an absolute path of a program or the name of a managed app, perhaps with `confirm:` before it"
            }
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
            Self::Line | Self::Publisher => return None,
            Self::ClientId => r"^[!#%&(-+\--:=?A-\x5b\x5d-_a-z|~]+$",
            Self::ClientSecret => r"^[!-~]([ -~]*[!-~])?$",
            Self::BearerToken => "^[!-~]+$",
            Self::Issuer => r"^https?://[^/?#\s@]+(/[^?#\s]*)?$",
            Self::Url => r"^https?://[^/?#\s@]+([/?][^#\s]*)?$",
            Self::WebSocketUrl => r"^(https?|wss?)://[^/?#\s@]+([/?][^#\s]*)?$",
            Self::RedirectUri => r"^http://(localhost|127\.[0-9.]+|\[::1\]):[0-9]+(/[^?#\s]*)?$",
            Self::ProxyUrl => r"^https?://[^/?#\s@]+/?$",
            Self::Host => r"^[^\s/]+$",
            Self::Domain => r"^[^\s/@:.]+(\.[^\s/@:.]+)+$",
            Self::Scope => r"^[^\s\x22\x5c]+$",
            Self::Claim => r"^[!#-&(-+\--:<-\x5b\x5d-{}~]+$",
            Self::Version => r"^[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$",
            Self::Pin => r"^[0-9]+(\.[0-9]+(\.[0-9]+([-+][0-9A-Za-z.+-]+)?)?)?$",
            Self::Downgrade => {
                r"^[0-9]+(\.[0-9]+(\.[0-9]+([-+][0-9A-Za-z.+-]+)?)?)? to [0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$"
            }
            Self::TrustedRoots => r"^[1-9][0-9]*:[0-9A-Fa-f]{64}\+[1-9][0-9]*:[0-9A-Fa-f]{64}$",
            Self::UpdateSource => {
                r"^(/.*|[A-Za-z]:\x5c.*|\x5c\x5c[^\x5c]+\x5c.*|https?://[^/?#\s@]+(/[^?#\s]*)?)$"
            }
            Self::Textfile => r"^(/.*|[A-Za-z]:\x5c.*)[^/\x5c]\.prom$",
            Self::Name => "^[a-z0-9-]{1,64}$",
            Self::Application => r"^(confirm:)?(/.*|[A-Za-z]:\x5c.*|[a-z0-9-]{1,64})$",
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
        if let Some(odd) = text::invisible(text).or_else(|| self.foreign(text)) {
            // A template's blanks are no mistake of their own.
            return Err(if self.is_template(text) { Reason::Placeholder } else { Reason::Character(odd) });
        }
        if text.trim() != text {
            return Err(Reason::Padded);
        }
        if self.is_template(text) {
            return Err(Reason::Placeholder);
        }
        match self {
            Self::Line | Self::Certificate | Self::ClientId | Self::ClientSecret | Self::Claim => Ok(()),
            Self::BearerToken => when(!text.to_ascii_lowercase().starts_with("bearer "), Reason::Form),
            Self::Issuer => check_url(text).and_then(|url| when(url.query().is_none(), Reason::Extra)),
            Self::Url => check_url(text).map(drop),
            Self::WebSocketUrl => check_url(&without_web_socket(text)).map(drop),
            Self::RedirectUri => {
                // https is no cure: it must be this device.
                let of_device = |reason| if reason == Reason::NotEncrypted { Reason::Form } else { reason };
                let url = check_url(text).map_err(of_device)?;
                when(
                    url.scheme() == "http"
                        && is_loopback(&url)
                        && is_listener(&url)
                        && url.port().is_some()
                        && url.query().is_none(),
                    Reason::Form,
                )
            }
            Self::ProxyUrl => {
                let url = Url::parse(text).map_err(|_| Reason::Form)?;
                when(url.username().is_empty() && url.password().is_none(), Reason::Credentials)?;
                when(
                    matches!(url.scheme(), "http" | "https")
                        && has_usable_host(&url)
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
            // No address of e-mail has a domain without a dot.
            Self::Domain => when(
                is_domain(text) && text.contains('.') && text.parse::<std::net::IpAddr>().is_err(),
                Reason::Form,
            ),
            Self::Scope => {
                when(text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)), Reason::Form)
            }
            Self::Version => text.parse::<semver::Version>().map(drop).map_err(|_| Reason::Form),
            Self::Pin => text.parse::<Pin>().map(drop).map_err(|_| Reason::Form),
            Self::Downgrade => text.parse::<Downgrade>().map(drop).map_err(|_| Reason::Form),
            Self::TrustedRoots => text.parse::<TrustedRoots>().map(drop).map_err(|_| Reason::Form),
            Self::UpdateSource if text.contains("://") => {
                check_url(text).and_then(|url| when(url.query().is_none(), Reason::Extra))
            }
            Self::UpdateSource => {
                let windows = text.as_bytes().get(1..3) == Some(b":\\");
                let share = text.strip_prefix(r"\\").is_some_and(|rest| rest.contains('\\'));
                let plain = text.split(['/', '\\']).all(|part| part != "." && part != "..");
                when((text.starts_with('/') || windows || share) && plain, Reason::Form)
            }
            Self::Textfile => {
                let windows = text.as_bytes().get(1..3) == Some(b":\\");
                let plain =
                    text.split(['/', '\\']).all(|part| part != "." && part != ".." && part != ".prom");
                when((text.starts_with('/') || windows) && is_textfile(text) && plain, Reason::Form)
            }
            // Publishers are compared by one name of the certificate, not by all.
            Self::Publisher => when(!is_distinguished_name(text), Reason::Form),
            Self::Name => when(is_name(text), Reason::Form),
            Self::Application => {
                let (text, _) = application(text);
                let windows = text.as_bytes().get(1..3) == Some(b":\\");
                let mut parts = text.split(['/', '\\']);
                // A program has one path: paths are compared, not resolved.
                let plain = !text.ends_with(['/', '\\'])
                    && !text.contains(['*', '?'])
                    && !text.contains(" --")
                    && parts.all(|part| part != "." && part != "..");
                when((text.starts_with('/') || windows) && plain || is_name(text), Reason::Form)
            }
            Self::Window => text.parse::<Window>().map(drop).map_err(|_| Reason::Form),
        }
    }
}

impl Format {
    /// The first character that a text of this format cannot have, although it can be seen.
    fn foreign(self, text: &str) -> Option<OddCharacter> {
        let first = |is_odd: &dyn Fn(char) -> bool| {
            let odd = text.chars().zip(1..).find(|(character, _)| is_odd(*character));
            odd.map(|(character, position)| OddCharacter { character, position })
        };
        match self {
            Self::BearerToken if text.to_ascii_lowercase().starts_with("bearer ") => None,
            Self::BearerToken
            | Self::Scope
            | Self::Version
            | Self::Pin
            | Self::TrustedRoots
            | Self::Name
            | Self::RedirectUri
            | Self::ProxyUrl => {
                // Spaces around it have a message of their own.
                text::not_plain(text.trim_end()).filter(|odd| odd.character != ' ' || odd.position > 1)
            }
            Self::ClientId | Self::Claim => {
                let others = if self == Self::Claim { "'\"\\,;|" } else { "'\"`$\\<>{},;" };
                let refused = |character: char| !character.is_ascii_graphic() || others.contains(character);
                let trimmed = text.trim_end();
                first(&refused)
                    .filter(|odd| odd.position > 1 && odd.position <= trimmed.chars().count())
                    .or_else(|| first(&refused).filter(|odd| odd.character != ' '))
            }
            Self::ClientSecret => first(&|character| !character.is_ascii()),
            Self::Issuer | Self::Url | Self::WebSocketUrl => {
                let end = text.chars().count();
                text::look_alike(text)
                    .or_else(|| first(&|character| " \"\\^`|".contains(character)))
                    .or_else(|| {
                        let quote = first(&|character| character == '\'')?;
                        (quote.position == 1 || text.ends_with('\'')).then_some(quote)
                    })
                    .filter(|odd| odd.character != ' ' || text.trim() == text && odd.position < end)
            }
            Self::Domain | Self::Host => text::look_alike(text),
            Self::Application => {
                first(&|character| character == '"').or_else(|| text::look_alike_in_path(text))
            }
            Self::UpdateSource | Self::Textfile => {
                first(&|character| character == '"').or_else(|| text::look_alike_in_path(text))
            }
            Self::Window => first(&|character| !character.is_ascii()),
            Self::Line | Self::Publisher | Self::Downgrade | Self::Certificate => None,
        }
    }

    /// Whether a text has a part that a template was to fill in. Sentences and secrets may look like one in part.
    fn is_template(self, text: &str) -> bool {
        let anywhere = || text::placeholder(text).is_some() || text::is_placeholder(text);
        match self {
            Self::Line | Self::Publisher => {
                text::is_placeholder(text) || text::placeholder_in_sentence(text).is_some()
            }
            Self::ClientSecret | Self::BearerToken => text::is_placeholder(text),
            Self::Window | Self::Certificate => false,
            // `<local>` is one of Windows, about which there is more to say.
            Self::Host if text == "<local>" => false,
            Self::Issuer
            | Self::Url
            | Self::WebSocketUrl
            | Self::RedirectUri
            | Self::ProxyUrl
            | Self::Domain
            | Self::Host => anywhere() || text::placeholder_in_address(text).is_some(),
            Self::ClientId
            | Self::Scope
            | Self::Claim
            | Self::Version
            | Self::Pin
            | Self::TrustedRoots
            | Self::Downgrade
            | Self::Name
            | Self::UpdateSource
            | Self::Textfile
            | Self::Application => anywhere(),
        }
    }
}

/// Whether the collectors of Prometheus read a file of this name: they compare capitals.
pub(super) fn is_textfile(text: &str) -> bool {
    text.strip_suffix(".prom").is_some()
}

/// Whether a text is the whole subject of a certificate (RFC 4514): `CN=Example Corp, O=Example Corp`.
pub(super) fn is_distinguished_name(text: &str) -> bool {
    text.split(',').next().and_then(|first| first.split_once('=')).is_some_and(|(attribute, _)| {
        ["CN", "O", "OU", "C", "L", "S", "ST", "E"]
            .iter()
            .any(|known| attribute.trim().eq_ignore_ascii_case(known))
    })
}

/// What stands before an item of `AllowedApplications` that the user has to confirm.
pub(super) const CONFIRM: &str = "confirm:";

/// What an item of `AllowedApplications` names, and whether the user has to confirm it first.
pub(crate) fn application(item: &str) -> (&str, bool) {
    item.strip_prefix(CONFIRM).map_or((item, false), |named| (named, true))
}

fn when(condition: bool, otherwise: Reason) -> Result<(), Reason> {
    if condition { Ok(()) } else { Err(otherwise) }
}

/// An address of WebSocket as that of the HTTP request that opens it (RFC 6455, section 4.1); another address as it is.
#[must_use]
pub fn without_web_socket(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("wss") => format!("https://{rest}"),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => format!("http://{rest}"),
        Some(_) | None => text.to_owned(),
    }
}

fn check_url(text: &str) -> Result<Url, Reason> {
    let url = Url::parse(text).map_err(|_| Reason::Form)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Reason::Credentials);
    }
    if url.fragment().is_some() {
        return Err(Reason::Extra);
    }
    // Two addresses in one.
    let before_query = text.split('?').next().unwrap_or_default();
    when(before_query.matches("://").count() == 1 && has_usable_host(&url), Reason::Form)?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(Reason::NotEncrypted),
        _ => Err(Reason::Form),
    }
}

/// Whether an address has a host and a port that something can listen at. Names within an organization may have
/// underscores.
fn has_usable_host(url: &Url) -> bool {
    let host = match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.').split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        }),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    };
    host && url.port() != Some(0)
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
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn check_certificate(text: &str) -> Result<(), Reason> {
    if text.len() > MAXIMUM_CERTIFICATE {
        return Err(Reason::TooLong);
    }
    // Text may stand before and behind it (RFC 7468, section 2), as in what `openssl pkcs12` prints.
    let body = text
        .split_once("-----BEGIN CERTIFICATE-----")
        .and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE-----"))
        .filter(|(_, behind)| !behind.contains("-----BEGIN"))
        .map(|(body, _)| body)
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

#[cfg(test)]
mod tests;
