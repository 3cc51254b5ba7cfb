//! Which addresses mean this device itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Whether a URL, of any scheme, names this device itself: 127.0.0.0/8 (RFC 1122, section 3.2.1.3), `::1` (RFC 4291,
/// section 2.5.3), 127.0.0.0/8 mapped into IPv6 (section 2.5.5.2), `localhost` and the names below it (RFC 6761,
/// section 6.3), with or without the root's dot.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // Only of http and its kind does the parser make addresses and lower case.
        Some(Host::Domain(name)) => {
            name.parse::<Ipv4Addr>().map_or_else(|_| is_localhost(name), |address| address.is_loopback())
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            address == Ipv6Addr::LOCALHOST
                || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
        None => false,
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.strip_suffix(".localhost").is_some_and(|below| !below.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_device_are_loopback() {
        let cases = [
            ("http://127.0.0.1/", true),
            ("http://127.0.0.1:8080/path?query", true),
            ("http://127.255.255.254/", true),
            ("http://2130706433/", true),
            ("http://128.0.0.1/", false),
            ("http://126.255.255.255/", false),
            ("http://0.0.0.0/", false),
            ("http://192.168.0.1/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://127.0.0.1@example.com/", false),
            ("http://[::1]:8080/", true),
            ("http://[0:0:0:0:0:0:0:1]/", true),
            ("http://[::2]/", false),
            ("http://[::]/", false),
            ("http://[::ffff:127.0.0.1]/", true),
            ("http://[::ffff:7fff:ffff]/", true),
            ("http://[::ffff:128.0.0.1]/", false),
            ("http://[::127.0.0.1]/", false),
            ("http://[64:ff9b::127.0.0.1]/", false),
            ("http://localhost/", true),
            ("http://LocalHost:3000/", true),
            ("http://localhost./", true),
            ("http://localhost../", false),
            ("http://app.localhost/", true),
            ("http://a.b.localhost.:1/", true),
            ("http://.localhost/", false),
            ("http://notlocalhost/", false),
            ("http://localhost.example.com/", false),
            ("http://localhost@example.com/", false),
            ("https://127.0.0.1/", true),
            ("https://example.com/", false),
            ("ws://localhost/", true),
            ("socks5://127.0.0.1:1080", true),
            ("socks5://[::1]:1080", true),
            ("socks5://LOCALHOST:1080", true),
            ("socks5://10.0.0.1:1080", false),
            ("file:///localhost", false),
            ("data:text/plain,localhost", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_loopback(&text.parse().unwrap()), expected, "{text}");
        }
    }
}
