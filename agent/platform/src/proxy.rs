//! What a system says about proxies. Portable; where the settings lie is in the folders ([`crate::system_proxy`]). The environment
//! variables that programs follow everywhere are not among them.

/// What the system says about an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemProxy {
    /// Proxies, as the system writes them: `proxy:8080`, or by scheme `http=proxy:80;https=proxy:443`. Empty if there is none.
    pub proxies: String,
    /// Hosts that are reached without a proxy, as patterns with `*`; `<local>` is every name without a dot.
    pub bypass: String,
    /// Where the settings come from, for messages.
    pub source: String,
}
