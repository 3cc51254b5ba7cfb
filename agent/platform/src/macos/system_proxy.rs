//! The proxy that the system itself names: the network settings, as macOS' own program prints them (scutil(8)).

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};

use crate::proxy::SystemProxy;

/// What the system says about an address; `None` if it names no proxy at all.
///
/// # Errors
/// The program could not be run.
pub fn for_url(_: &str) -> io::Result<Option<SystemProxy>> {
    let output = Command::new("/usr/sbin/scutil")
        .arg("--proxy")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    Ok(read(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads what the program prints: `HTTPSEnable : 1`, and lists in braces.
fn read(text: &str) -> Option<SystemProxy> {
    let mut values = BTreeMap::new();
    let mut bypass = Vec::new();
    let mut in_list = false;
    for line in text.lines() {
        let Some((name, value)) = line.split_once(" : ") else {
            in_list &= line.trim() != "}";
            continue;
        };
        if in_list {
            bypass.push(value.trim().to_owned());
        } else if name.trim() == "ExceptionsList" {
            in_list = true;
        } else {
            values.insert(name.trim(), value.trim());
        }
    }
    let is_on = |name: &str| values.get(name) == Some(&"1");
    let proxy = |scheme: &str, name: &str| {
        let on = is_on(&format!("{name}Enable"));
        let (host, port) = (values.get(&*format!("{name}Proxy"))?, values.get(&*format!("{name}Port"))?);
        on.then(|| format!("{scheme}={host}:{port}"))
    };
    let proxies: Vec<String> =
        [proxy("http", "HTTP"), proxy("https", "HTTPS")].into_iter().flatten().collect();
    if is_on("ExcludeSimpleHostnames") {
        bypass.push("<local>".to_owned());
    }
    let automatic = is_on("ProxyAutoConfigEnable") || is_on("ProxyAutoDiscoveryEnable");
    let source = if automatic {
        let address =
            values.get("ProxyAutoConfigURLString").map_or_else(String::new, |url| format!(" at {url}"));
        format!("the network settings; Steward cannot follow their automatic configuration{address}")
    } else {
        "the network settings".to_owned()
    };
    (!proxies.is_empty() || automatic).then(|| SystemProxy {
        proxies: proxies.join(";"),
        bypass: bypass.join(";"),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_are_printed() {
        let text = "<dictionary> {\n  ExceptionsList : <array> {\n    0 : *.local\n    1 : 169.254/16\n  }\n  \
                    ExcludeSimpleHostnames : 1\n  FTPPassive : 1\n  HTTPEnable : 0\n  HTTPPort : 80\n  HTTPProxy : old\n  \
                    HTTPSEnable : 1\n  HTTPSPort : 8443\n  HTTPSProxy : proxy.example.com\n}\n";
        let found = read(text).unwrap();
        assert_eq!(found.proxies, "https=proxy.example.com:8443");
        assert_eq!(found.bypass, "*.local;169.254/16;<local>");
        assert_eq!(read("<dictionary> {\n  HTTPEnable : 0\n}\n"), None);
        let automatic = "<dictionary> {\n  ProxyAutoConfigEnable : 1\n  ProxyAutoConfigURLString : https://a.example/p.pac\n}\n";
        let found = read(automatic).unwrap();
        assert!(found.proxies.is_empty() && found.source.contains("https://a.example/p.pac"), "{found:?}");
    }
}
