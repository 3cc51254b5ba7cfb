//! `steward repo mirror`: takes a version from the vendor's feed into the repository.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use net::http::Http;
use platform::SYSTEM;
use platform::paths::Paths;
use semver::Version;
use updates::Release;
use updates::feed::allows;
use url::Url;

use super::add::{AddArguments, Added, add};
use super::{Conditions, alone};
use crate::app::descriptor::{self, System};
use crate::cli::policy::preview;
use crate::repo;
use crate::update;

/// A feed has at most so many bytes.
const MAXIMUM_FEED: usize = 1024 * 1024;

#[derive(Args)]
pub(in crate::cli) struct MirrorArguments {
    /// The folder of the repository.
    folder: PathBuf,
    /// The name of the app, as in the setting `App`.
    #[arg(long)]
    app: String,
    /// The operating system to take it for.
    #[arg(long, value_name = "SYSTEM", value_parser = ["linux", "macos", "windows"])]
    system: String,
    /// The processor that the file is for, which vendors' feeds do not say; `any` for a file that runs on both.
    #[arg(long, value_name = "NAME", value_parser = ["x86_64", "aarch64", "any"])]
    architecture: String,
    /// The version. By default the newest in the feed.
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    /// The feed, in place of the vendor's.
    #[arg(long, value_name = "URL")]
    feed: Option<Url>,
    /// A host besides that of the feed that files may come from; may be given more than once.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Take a file whose publisher this system cannot verify. Devices verify it again before they install it.
    #[arg(long)]
    without_publisher: bool,
    #[command(flatten)]
    conditions: Conditions,
}

/// Takes a version. Gives what was added; `None` if it is there already.
pub(super) async fn mirror(paths: &Paths, arguments: MirrorArguments) -> anyhow::Result<Option<Added>> {
    let MirrorArguments {
        folder,
        app,
        system: on,
        architecture,
        version,
        feed,
        allow_host,
        without_publisher,
        conditions,
    } = arguments;
    let architecture = Some(architecture).filter(|name| name != "any");
    let known = descriptor::find(&app).with_context(|| format!("this version knows no app `{app}`"))?;
    let system = known.on(&on).with_context(|| format!("{} does not exist on {on}", known.title))?;
    let feeds: Vec<Url> = match feed {
        Some(feed) => vec![feed],
        None => system.feeds.iter().filter_map(|feed| feed.parse().ok()).collect(),
    };
    ensure!(!feeds.is_empty(), "no feed of {} for {on} is known; give it with --feed", known.title);
    let repository = alone(&folder)?;
    let http = Http::new(&(&preview(paths).resolved.policy).into())?;
    let (from, releases) = releases(&http, &feeds, &allow_host, (&on, system)).await?;
    let release = match &version {
        Some(version) => releases.iter().find(|release| release.version == *version),
        None => releases.first(),
    };
    let release = release.with_context(|| match &version {
        Some(version) => format!("the feed {from} does not have version {version}"),
        None => format!("the feed {from} has no version"),
    })?;
    let name = release.artifact.url.path_segments().and_then(|mut path| path.next_back());
    let name =
        percent_encoding::percent_decode_str(name.unwrap_or_default()).decode_utf8_lossy().into_owned();
    ensure!(
        !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.'),
        "the file has no name"
    );
    if let (Some(wanted), Some(named)) = (architecture.as_deref(), architecture_of(&name)) {
        ensure!(
            wanted == named,
            "the feed {from} names {name}, which is for {named}, not for {wanted}; give the feed of that processor with --feed"
        );
    }
    let path = repo::path_of(Path::new(&name), &app, &release.version.to_string())?;
    if repository.list(repo::Part::Director)?.targets.contains_key(&path) {
        return Ok(None);
    }
    let beside = folder.join(".mirror");
    fs_err::create_dir_all(&beside)?;
    let file = beside.join(&name);
    let fetched = async {
        download(&http, &from, &allow_host, release, fs_err::File::create(&file)?, &file).await?;
        verify_publisher(&file, &on, system, without_publisher).await
    };
    if let Err(error) = fetched.await {
        fs_err::remove_dir_all(&beside)?;
        return Err(error);
    }
    let arguments = AddArguments {
        folder,
        file,
        app,
        version: release.version.clone(),
        system: Some(on),
        architecture,
        minimum_system: release.brakes.minimum_system.clone(),
        patches: repo::VERSIONS,
        conditions,
    };
    let added = add(&repository, &arguments);
    fs_err::remove_dir_all(&beside)?;
    added.map(Some)
}

/// The processor that the name of a file says, if it does.
fn architecture_of(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace("x86_64", "x64");
    let words: Vec<&str> = name.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    let says = |known: &[&str]| words.iter().any(|word| known.contains(word));
    if says(&["arm64", "aarch64"]) {
        return Some("aarch64");
    }
    says(&["x64", "amd64"]).then_some("x86_64")
}

/// The releases of the first feed that exists, newest first.
async fn releases(
    http: &Http,
    feeds: &[Url],
    hosts: &[String],
    system: (&str, &System),
) -> anyhow::Result<(Url, Vec<Release>)> {
    let mut last = None;
    for feed in feeds {
        match http.get(feed, MAXIMUM_FEED).await {
            Ok(bytes) => return Ok((feed.clone(), update::releases(&bytes, feed, hosts, system)?.releases)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("there is no feed")?.into())
}

/// Downloads a file and verifies that it is the one in the feed. `file` is open for writing at `to`.
pub(in crate::cli) async fn download(
    http: &Http,
    feed: &Url,
    hosts: &[String],
    release: &Release,
    mut file: fs_err::File,
    to: &Path,
) -> anyhow::Result<()> {
    let artifact = &release.artifact;
    let follows = |url: &Url| allows(feed, hosts, url) || allows(&artifact.url, hosts, url);
    let mut body = http.open(&artifact.url, None, follows).await?;
    let mut length: u64 = 0;
    while let Some(piece) = body.chunk().await? {
        length += u64::try_from(piece.len())?;
        ensure!(length <= artifact.size, "{} is longer than the feed says", artifact.url);
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    // A program that is open for writing cannot be run.
    drop(file);
    let (length, hashes) = repo::hashes(to)?;
    ensure!(
        length == artifact.size && hashes.sha512 == artifact.sha512,
        "{} is not the file that the feed describes; nothing was added",
        artifact.url
    );
    Ok(())
}

async fn verify_publisher(file: &Path, on: &str, system: &System, without: bool) -> anyhow::Result<()> {
    if !system.has_publishers() || without {
        return Ok(());
    }
    if on != SYSTEM {
        bail!(
            "who made the file can be verified on {on} only; run this there, or add --without-publisher (devices verify it as well)"
        );
    }
    let accepted =
        system.publishers(platform::clock::now()).map(|publisher| publisher.name.clone()).collect();
    update::check_publisher(file.to_owned(), accepted).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_file_says_its_processor_or_nothing() {
        for (name, expected) in [
            ("lab-notes-2.6.0-arm64.tar.gz", Some("aarch64")),
            ("Quick_1.2.0_x64.msi", Some("x86_64")),
            ("lab-notes_2.6.0_amd64.deb", Some("x86_64")),
            ("app-x86_64.AppImage", Some("x86_64")),
            ("Setup 1.2.0 x64.exe", Some("x86_64")),
            ("alarm64bell.exe", None),
        ] {
            assert_eq!(architecture_of(name), expected, "{name}");
        }
    }
}
