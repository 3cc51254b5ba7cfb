//! Why a text is refused, in words.

use url::Url;

use super::advice;
use super::format::{Format, Reason, is_distinguished_name, is_textfile};
use crate::message::{excerpt, without_query};
use crate::raw::Notation;
use crate::text;

impl Reason {
    /// The refused text as a message shows it. An address with a password in it is not repeated.
    pub(super) fn shown(self, text: &str, format: Format) -> String {
        let address = matches!(
            format,
            Format::Issuer | Format::Url | Format::WebSocketUrl | Format::RedirectUri | Format::ProxyUrl
        );
        if self == Self::Credentials || (address || text.contains("://")) && text.contains('@') {
            return "an address with a user name or password in it".to_owned();
        }
        let shown = format!("`{}`", excerpt(&without_query(text)));
        match self {
            Self::Character(odd) => format!("{shown} with {odd}"),
            Self::Placeholder => {
                let part =
                    text::placeholder(text).or_else(|| text::placeholder_in_address(text)).unwrap_or(text);
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
                '\u{2024}' | '\u{3002}' | '\u{ff0e}' => "use a plain dot (.)".to_owned(),
                '\u{2044}' | '\u{2215}' | '\u{ff0f}' | '\u{29f8}' => "use a plain slash (/)".to_owned(),
                '\u{a789}' | '\u{ff1a}' | '\u{2236}' => "use a plain colon (:)".to_owned(),
                '{' | '}' => "remove the braces".to_owned(),
                '<' | '>' => "remove the angle brackets".to_owned(),
                ',' | ';' | '|' => "write one value; if it is one, copy it again".to_owned(),
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

const COPY_ROOTS: &str =
    "write `1:`, the SHA-256 of image/1.root.json, `+1:`, and the SHA-256 of director/1.root.json";

/// What to do about a text that is not of its format, as far as the mistake is a usual one.
fn by_format(text: &str, format: Format) -> Option<String> {
    let shown = |text: &str| excerpt(&without_query(text));
    let bare =
        |text: &str| text.trim_start_matches("*.").trim_matches('.').trim_start_matches('@').to_owned();
    match format {
        Format::Version => version(text),
        Format::Pin => pin(text),
        Format::Downgrade => Some(about_downgrade(text)),
        Format::Domain if text.contains('@') && !text.starts_with('@') => {
            Some("write only the part after the @".to_owned())
        }
        Format::Domain if text.starts_with("*.") => Some(format!(
            "subdomains must be listed one by one; `{}` allows that domain itself",
            shown(&bare(text))
        )),
        Format::Domain => domain(text, &bare(text)),
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
        Format::Issuer | Format::Url | Format::WebSocketUrl if text.matches("://").count() > 1 => {
            let single = text.rfind("https://").map(|at| &text[at..]).filter(|one| format.check(one).is_ok());
            let doubled = single.filter(|_| text.starts_with("https://https://"));
            Some(doubled.map_or_else(
                || "this setting has one address: remove the rest".to_owned(),
                |one| format!("write {}", shown(one)),
            ))
        }
        Format::Issuer | Format::Url | Format::WebSocketUrl
            if !text.contains("://") && !text.contains('@') =>
        {
            let text = text.trim_start_matches("https:").trim_start_matches("http:").trim_start_matches('/');
            let with_scheme = format!("https://{text}");
            Some(if format.check(&with_scheme).is_ok() {
                format!("write {}", shown(&with_scheme))
            } else {
                "write the whole address, from https:// on".to_owned()
            })
        }
        Format::Issuer | Format::Url | Format::WebSocketUrl
            if text.contains(":0/") || text.ends_with(":0") =>
        {
            Some("0 is not a port that a server can have: leave out `:0`".to_owned())
        }
        Format::RedirectUri => Some(about_redirect(text)),
        Format::UpdateSource if text.starts_with("file:") => Some("write the path itself".to_owned()),
        Format::UpdateSource => Some(
            "write the whole path, from the root, the drive or \\\\server on, or an https URL".to_owned(),
        ),
        Format::Textfile => Some(about_textfile(text).to_owned()),
        Format::Application => about_application(text).map(ToOwned::to_owned),
        Format::Window => Some(about_window(text)),
        Format::Certificate => Some(about_certificate(text).to_owned()),
        Format::TrustedRoots => Some(COPY_ROOTS.to_owned()),
        Format::Publisher => publisher(text).map(ToOwned::to_owned),
        Format::Line
        | Format::ClientId
        | Format::ClientSecret
        | Format::BearerToken
        | Format::Issuer
        | Format::Url
        | Format::WebSocketUrl
        | Format::Scope
        | Format::Claim
        | Format::Name => None,
    }
}

fn about_window(text: &str) -> String {
    window(text).map_or_else(
        || "write times of a 24-hour clock, with days as Mon, Tue, Wed, Thu, Fri, Sat, Sun".to_owned(),
        |window| format!("write {window}"),
    )
}

fn about_downgrade(text: &str) -> String {
    downgrade(text).map_or_else(
        || "write the version that is installed, `to`, and the version to install".to_owned(),
        |downgrade| format!("write {downgrade}"),
    )
}

fn publisher(text: &str) -> Option<&'static str> {
    is_distinguished_name(text).then_some("write only what follows `CN=`, up to the next name")
}

/// A version as its author must have meant it.
fn version(text: &str) -> Option<String> {
    let digits = text.trim_start_matches(['v', 'V']);
    // Without the zeros before a number, which no version has.
    let numbers: Option<Vec<u64>> = digits.split('.').map(|one| one.parse().ok()).collect();
    let Some(mut numbers) = numbers.filter(|numbers| numbers.len() <= 4) else {
        return text.starts_with(['v', 'V']).then(|| "leave out the `v`".to_owned());
    };
    numbers.resize(3, 0);
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    Some(format!("write {}", numbers.join(".")))
}

/// A pin as its author must have meant it: ranges of other tools name the beginning.
fn pin(text: &str) -> Option<String> {
    let meant = text.trim_start_matches(['v', 'V', '^', '~', '=', '>', ' ']);
    let start = meant.find(['x', 'X', '*']).map_or(meant, |at| &meant[..at]);
    let start = start.trim_end_matches(['.', ' ']);
    if start != text && Format::Pin.check(start).is_ok() {
        return Some(format!("write {start}"));
    }
    version(text)
}

/// A downgrade as its author must have meant it.
fn downgrade(text: &str) -> Option<String> {
    let text = text.trim_start_matches("from ");
    let arrows = [" to ", "->", "=>", "\u{2192}", " - ", ":", ">", " "];
    let meant = arrows.iter().filter_map(|arrow| text.split_once(arrow)).map(|(from, to)| {
        let plain = |part: &str| part.trim().trim_start_matches(['v', 'V']).to_owned();
        format!("{} to {}", plain(from), plain(to))
    });
    meant.into_iter().find(|meant| Format::Downgrade.check(meant).is_ok())
}

/// A domain as its author must have meant it; `bare` is without what stands around it.
fn domain(text: &str, bare: &str) -> Option<String> {
    let shown = |text: &str| excerpt(&without_query(text));
    let host = bare.split_once("://").map_or(bare, |(_, rest)| rest).split(['/', ':']).next();
    let candidates = [host.unwrap_or_default().to_owned(), text.replace(',', "."), text.replace(' ', "")];
    let meant = candidates.into_iter().find(|one| one != text && Format::Domain.check(one).is_ok());
    match meant {
        Some(domain) if text.starts_with('.') => {
            Some(format!("write {}; each subdomain must be listed itself", shown(&domain)))
        }
        Some(domain) if text.contains([',', ' ']) => Some(format!("did you mean {}?", shown(&domain))),
        Some(domain) => Some(format!("write {}", shown(&domain))),
        None if !text.contains('.') => {
            Some(format!("write the whole domain, such as {}.com", shown(text.trim_matches('@'))))
        }
        None => None,
    }
}

fn about_redirect(text: &str) -> String {
    let local = text.contains("localhost") || text.contains("127.") || text.contains("[::1]");
    let over_http = text.replacen("https://", "http://", 1);
    if local && over_http != text && Format::RedirectUri.check(&over_http).is_ok() {
        return format!(
            "write {}: the address never leaves this device, so it has no certificate",
            excerpt(&over_http)
        );
    }
    if local && !text.contains("://") {
        let with_scheme = format!("http://{text}");
        if Format::RedirectUri.check(&with_scheme).is_ok() {
            return format!("write {}", excerpt(&with_scheme));
        }
    }
    "the browser comes back to this device: use http://localhost with a port, as it is registered".to_owned()
}

fn about_application(text: &str) -> Option<&'static str> {
    if text.contains(['*', '?']) {
        Some("write the path of each program: patterns are not supported")
    } else if text.contains(" --") {
        Some("write only the path of the program, without its options")
    } else if text.starts_with('~') {
        Some("write the whole path: `~` is not replaced")
    } else if text.starts_with(r"\\") {
        Some("write a path on this device; programs of a network share cannot be allowed")
    } else if text.ends_with(['/', '\\']) {
        Some("write the path of the program, not of its folder")
    } else if text.split(['/', '\\']).any(|part| part == "." || part == "..") {
        Some("write the path without `.` and `..`")
    } else if text.contains(['/', '\\']) {
        Some("write the whole path, from the root or the drive on")
    } else if Format::Name.check(&text.to_ascii_lowercase()).is_ok() || text.contains('.') {
        Some("write the whole path of the program; only names of managed apps stand alone, in lower case")
    } else {
        None
    }
}

/// A window as its author must have meant it.
fn window(text: &str) -> Option<String> {
    const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let is_letter = |letter: char| letter.is_ascii_alphabetic();
    let text = text.replace(['\u{2013}', '\u{2014}'], "-").replace(" to ", "-");
    let mut words = String::new();
    // Each word with what is behind it.
    for word in text.split_inclusive(|letter: char| !is_letter(letter)) {
        let name = word.trim_end_matches(|letter: char| !is_letter(letter));
        let lower = name.to_ascii_lowercase();
        let day = DAYS.iter().find(|day| lower.len() >= 3 && day.starts_with(&lower));
        let short = day.map(|day| format!("{}{}", day[..1].to_ascii_uppercase(), &day[1..3]));
        words.push_str(short.as_deref().unwrap_or(name));
        words.push_str(&word[name.len()..]);
    }
    let words = words.replace(" -", "-").replace("- ", "-").replace(", ", ",");
    let words = words.trim();
    let (days, times) = words.rsplit_once(' ').map_or((None, words), |(days, times)| (Some(days), times));
    let (from, to) = times.split_once('-')?;
    let time = |time: &str| {
        let (hour, minute) = time.split_once([':', '.']).unwrap_or((time, "00"));
        let hour: u8 = hour.parse().ok().filter(|hour| *hour <= 24)?;
        let minute: u8 = minute.parse().ok()?;
        Some(format!("{:02}:{minute:02}", hour % 24))
    };
    let times = format!("{}-{}", time(from)?, time(to)?);
    let window = days.map_or_else(|| times.clone(), |days| format!("{days} {times}"));
    Format::Window.check(&window).is_ok().then_some(window)
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

fn about_textfile(text: &str) -> &'static str {
    if is_textfile(text) {
        "write the whole path, from the root or the drive on"
    } else {
        "name the file as `steward.prom`, in the folder of the collector"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_that_another_tool_would_read_gets_its_right_spelling() {
        for (format, text, expected) in [
            (Format::Pin, "v2.1", "write 2.1"),
            (Format::Pin, "2.x", "write 2"),
            (Format::Pin, "2.1.*", "write 2.1"),
            (Format::Pin, "^2.1", "write 2.1"),
            (Format::Pin, ">=2.1.0", "write 2.1.0"),
            (Format::Pin, "2.1.0.0", "write 2.1.0"),
            (Format::Downgrade, "2.1.0 -> 2.0.4", "write 2.1.0 to 2.0.4"),
            (Format::Downgrade, "2.1=>2.0.4", "write 2.1 to 2.0.4"),
            (Format::Downgrade, "v2.1.0 \u{2192} v2.0.4", "write 2.1.0 to 2.0.4"),
            (Format::Downgrade, "from 2.1 to 2.0.4", "write 2.1 to 2.0.4"),
            (
                Format::Downgrade,
                "2.0.4",
                "write the version that is installed, `to`, and the version to install",
            ),
            (Format::UpdateSource, "file:///srv/updates", "write the path itself"),
            (
                Format::TrustedRoots,
                "sha256:0123",
                "write `1:`, the SHA-256 of image/1.root.json, `+1:`, and the SHA-256 of director/1.root.json",
            ),
            (Format::Textfile, "steward.prom", "write the whole path, from the root or the drive on"),
            (Format::Textfile, "/var/x", "name the file as `steward.prom`, in the folder of the collector"),
            (
                Format::Publisher,
                "CN=Example, O=Example",
                "write only what follows `CN=`, up to the next name",
            ),
        ] {
            let reason = format.check(text).unwrap_err();
            let hint = reason.hint(text, format, Notation::Toml);
            assert_eq!(hint.as_deref(), Some(expected), "{text}");
        }
    }
}
