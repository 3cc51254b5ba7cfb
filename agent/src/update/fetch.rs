//! Fetches a feed, or reads a signed repository, and gives the releases that this device can install.

use std::path::PathBuf;

use net::http::{Http, HttpError};
use platform::SYSTEM;
use policy_schema::roots::TrustedRoots;
use policy_schema::version::Downgrade;
use updates::feed::{self, Feed, FeedError, Wanted};
use updates::signed::SignedError;
use updates::signed::compose::Composed;
use url::Url;

use super::signed;
use crate::app::descriptor::System;

/// Why there is no feed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Unreachable(HttpError),
    #[error(transparent)]
    Feed(FeedError),
    #[error(transparent)]
    Signed(#[from] SignedError),
    #[error("no feed is known")]
    None,
}

/// What a feed offers, and where it is.
pub(crate) struct Offering {
    pub(crate) url: Url,
    pub(crate) feed: Feed,
    /// Older versions that a signed repository leads back to.
    pub(crate) downgrades: Vec<Downgrade>,
    /// What a signed repository names and no device takes, with the reason.
    pub(crate) refused: Vec<String>,
}

/// Where the releases of an app are.
pub(crate) struct Source<'a> {
    /// Tried in this order.
    pub(crate) feeds: &'a [Url],
    /// `UpdateTrustedRoots`: the first feed is a signed repository.
    pub(crate) roots: Option<&'a TrustedRoots>,
    /// Where what a signed repository says is kept; without one, it is as if nothing was ever learned.
    pub(crate) folder: Option<PathBuf>,
    /// `UpdateAllowedHosts`.
    pub(crate) hosts: &'a [String],
    pub(crate) channel: Option<&'a str>,
    pub(crate) app: &'a str,
    pub(crate) system: &'a System,
}

/// Reads a feed, for an operating system with its name and an app's description of it.
///
/// # Errors
/// It is not accepted.
pub(crate) fn releases(
    bytes: &[u8],
    base: &Url,
    hosts: &[String],
    (name, system): (&str, &System),
) -> Result<Feed, FeedError> {
    feed::parse(bytes, base, &wanted(&endings(system), name, hosts))
}

fn endings(system: &System) -> Vec<&str> {
    system.files.iter().map(String::as_str).collect()
}

fn wanted<'a>(endings: &'a [&'a str], system: &'a str, hosts: &'a [String]) -> Wanted<'a> {
    Wanted { endings, system, architecture: std::env::consts::ARCH, hosts }
}

/// Reads the signed repository that policy names, or fetches and reads the first feed that exists, for the channel of policy. A feed of electron-builder has a file of its own for
/// each channel: `beta.yml` beside `latest.yml`. Where a channel has none, `latest.yml` is what it has.
///
/// # Errors
/// None can be fetched, or one is not accepted. A feed that is wrong is never replaced by another one.
pub(crate) async fn fetch(http: &Http, source: &Source<'_>) -> Result<Offering, FetchError> {
    let Source { feeds, hosts, channel, system, app, .. } = *source;
    if let Some(roots) = source.roots {
        // Nothing that is not signed takes its place.
        let feed = feeds.first().ok_or(FetchError::None)?;
        let endings = endings(system);
        let wanted = wanted(&endings, SYSTEM, hosts);
        let (url, composed) =
            signed::fetch(http, feed, roots, source.folder.as_deref(), app, &wanted).await?;
        let Composed { feed, downgrades, refused } = composed;
        return Ok(Offering { url, feed, downgrades, refused });
    }
    let of_channel = |feed| channel.and_then(|channel| of_channel(feed, channel));
    let mut missing = None;
    let candidates = feeds.iter().flat_map(|feed| {
        let own = of_channel(feed);
        // Beside a feed of the channel, the stable one is that of all channels.
        let in_channel = own.is_some();
        own.into_iter().chain([feed.clone()]).map(move |url| (url, in_channel))
    });
    for (url, in_channel) in candidates {
        match http.get(&url, feed::MAXIMUM_BYTES).await {
            Ok(bytes) => {
                let mut feed = releases(&bytes, &url, hosts, (SYSTEM, system)).map_err(FetchError::Feed)?;
                for release in feed.releases.iter_mut().filter(|_| in_channel) {
                    release.channel = release.channel.take().or_else(|| channel.map(ToOwned::to_owned));
                }
                return Ok(Offering { url, feed, downgrades: Vec::new(), refused: Vec::new() });
            }
            // Stores of files say 403 of what is not there.
            Err(error @ HttpError::Status { status: 403 | 404 | 410, .. }) => {
                missing = missing.or(Some(error));
            }
            Err(error) => return Err(FetchError::Unreachable(error)),
        }
    }
    Err(missing.map_or(FetchError::None, FetchError::Unreachable))
}

/// The address of the feed of another channel than the stable one.
fn of_channel(base: &Url, channel: &str) -> Option<Url> {
    let name = base.path_segments()?.next_back()?;
    let rest = name.strip_prefix("latest").filter(|rest| rest.starts_with(['.', '-']))?;
    (!matches!(channel, "stable" | "latest")).then(|| base.join(&format!("{channel}{rest}")).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_has_a_feed_of_its_own_beside_the_stable_one() {
        for (base, channel, expected) in [
            ("https://a.example/x/latest.yml", "beta", Some("https://a.example/x/beta.yml")),
            ("https://a.example/latest-mac.yml", "alpha", Some("https://a.example/alpha-mac.yml")),
            ("https://a.example/latest.yml", "stable", None),
            ("https://a.example/latest.yml", "latest", None),
            ("https://a.example/quick-prod-admin.yml", "beta", None),
            ("https://a.example/latestnews.yml", "beta", None),
        ] {
            let found = of_channel(&base.parse().unwrap(), channel);
            assert_eq!(found.as_ref().map(Url::as_str), expected, "{base} {channel}");
        }
    }
}
