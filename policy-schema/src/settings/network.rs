//! How servers are reached.

use super::Setting;
use super::choices::ProxyMode;
use crate::value::{Format, Literal};

settings! {
    network: "Network" {
        /// Proxy mode
        ///
        /// Which proxy is used. With `system`, the environment of the process is asked first (`HTTPS_PROXY` and its kind). Then,
        /// on Windows, the agent takes WinHTTP's settings of the device, and the broker the Internet settings of its user, with
        /// their exceptions and their automatic configuration; on macOS both take the network settings. `steward doctor` says
        /// which proxy each server is reached through, and who says so.
        ProxyMode => proxy_mode: ProxyMode =
            Setting::choice(ProxyMode::CHOICES, "fixed").default(Literal::Text("system"));
        /// Proxy address
        ///
        /// The proxy to use when the proxy mode is `fixed`.
        ProxyUrl => proxy_url: Option<String> = Setting::text(Format::ProxyUrl, "http://proxy.example.com:3128");
        /// Proxy exceptions
        ///
        /// Hosts that are reached without the fixed proxy. This device itself always is. An item that is not valid is left out
        /// and reported; the others are used.
        ProxyBypass => proxy_bypass: Vec<String> =
            Setting::list(Format::Host, 200, &[".corp.example.com", "10.0.0.1"])
                .default(Literal::List(&[])).items_stand_alone();
        /// Additional trusted certificates
        ///
        /// Certificate authorities to trust besides those of the operating system, in PEM. Where a form takes one line for
        /// each, the line breaks may be left out. A certificate that is not valid is left out and reported; the others are
        /// used.
        AdditionalTrustedCertificates => additional_trusted_certificates: Vec<String> =
            Setting::list(Format::Certificate, 50, &[EXAMPLE_CERTIFICATE])
                .default(Literal::List(&[])).items_stand_alone();
    }
}

/// A certificate of a certificate authority that does not exist.
const EXAMPLE_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIBfzCCASWgAwIBAgIUaqmKEKZr/9UqAAHpyzSgik4wkZYwCgYIKoZIzj0EAwIw\nFTETMBEGA1UEAwwKRXhhbXBsZSBDQTAeFw0yNjExMjMwMTIzMDhaFw00NjExMTgw\nMTIzMDhaMBUxEzARBgNVBAMMCkV4YW1wbGUgQ0EwWTATBgcqhkjOPQIBBggqhkjO\nPQMBBwNCAAQthPUS16KClIGjMtBYiehJHFwHyzAukC8VzlqZrLhojPyEPv2pMsK1\nVs1knzNWvJnCfGEKgiBooEsVS46XVoL1o1MwUTAdBgNVHQ4EFgQUjE4FSWCHhWkq\ni2Vg77Gd+m5YZXIwHwYDVR0jBBgwFoAUjE4FSWCHhWkqi2Vg77Gd+m5YZXIwDwYD\nVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAgSceVwgpVYvcnHw6G6vi+\ndLpRyXBKE9yTr26BlntQvgIhALoostTONdaAry/aookaltUmCnOldk5lmaigfyLa\nkMc7\n-----END CERTIFICATE-----";
