//! The client of signed repositories, with the command line of the TUF conformance suite (its CLIENT-CLI.md):
//!
//! ```text
//! tuf-conformance --metadata-dir DIR init ROOT
//! tuf-conformance --metadata-dir DIR --metadata-url URL refresh
//! tuf-conformance --metadata-dir DIR --metadata-url URL --target-name NAME --target-base-url URL --target-dir DIR download
//! ```
//!
//! Ends with 0, or with 1 and the reason.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "the suite sets the clock of the system, and reads what is printed"
)]

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use ring::digest;
use updates::signed::{Client, Error, FetchFuture, MetadataStore, Repository, TargetFile};

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    metadata_dir: PathBuf,
    #[arg(long)]
    metadata_url: Option<String>,
    #[arg(long)]
    target_name: Vec<String>,
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[arg(long)]
    target_base_url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init { root: PathBuf },
    Refresh,
    Download,
}

/// The suite looks for the latest of each role under its plain name, and trusts the root that is there.
struct Folder(PathBuf);

impl MetadataStore for Folder {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match fs_err::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(name, error)),
        }
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        if name.contains('/') {
            return Ok(());
        }
        fs_err::write(self.0.join(name), bytes).map_err(|error| Error::io(name, error))
    }
}

struct Mirror {
    client: reqwest::Client,
    metadata: String,
    targets: String,
}

impl Mirror {
    async fn get(&self, base: &str, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let url = format!("{}/{path}", base.trim_end_matches('/'));
        let failed = |error: reqwest::Error| Error::transport_with_source(url.clone(), error);
        let mut response = self.client.get(&url).send().await.map_err(failed)?;
        match response.status().as_u16() {
            200 => {}
            403 | 404 => return Ok(None),
            status => return Err(Error::transport(format!("{url}: status {status}"))),
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(Error::transport(format!("{url}: more than {limit} bytes")));
            }
        }
        Ok(Some(bytes))
    }
}

impl Repository for Mirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.get(&self.metadata, name, max_length))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.get(&self.targets, path, max_length))
    }
}

/// Whether bytes have the length and every hash that is known.
fn is_it(bytes: &[u8], target: &TargetFile) -> bool {
    let hashes = target.hashes.iter().filter_map(|(name, wanted)| {
        let algorithm = match name.as_str() {
            "sha256" => &digest::SHA256,
            "sha512" => &digest::SHA512,
            _ => return None,
        };
        let found = digest::digest(algorithm, bytes);
        let found = found.as_ref().iter().flat_map(|byte| {
            [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default())
        });
        Some(found.eq(wanted.to_ascii_lowercase().chars()))
    });
    let found: Vec<bool> = hashes.collect();
    bytes.len() as u64 == target.length && !found.is_empty() && found.iter().all(|same| *same)
}

fn mirror(arguments: &Arguments) -> Result<Mirror, Box<dyn StdError>> {
    let metadata = arguments.metadata_url.clone().unwrap_or_default();
    let targets = arguments.target_base_url.clone().unwrap_or_default();
    Ok(Mirror { client: reqwest::Client::builder().no_proxy().build()?, metadata, targets })
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn StdError>> {
    let trusted = arguments.metadata_dir.join("root.json");
    let store = || Folder(arguments.metadata_dir.clone());
    if let Command::Init { root } = &arguments.command {
        let bytes = fs_err::read(root)?;
        // It must be one that can be trusted.
        Client::new("metadata", mirror(arguments)?, store(), &bytes)?;
        return Ok(fs_err::write(trusted, bytes)?);
    }
    let mut client = Client::new("metadata", mirror(arguments)?, store(), &fs_err::read(trusted)?)?;
    let now = client.refresh(Timestamp::now()).await?;
    if matches!(arguments.command, Command::Refresh) {
        return Ok(());
    }
    let folder = arguments.target_dir.as_ref().ok_or("--target-dir is missing")?;
    let targets = mirror(arguments)?;
    for name in &arguments.target_name {
        let target = client.target(name, now).await?.ok_or("no such target")?;
        // One name of a file, whatever the target is called.
        let path = folder.join(name.replace(['/', '\\'], "%2F"));
        if fs_err::read(&path).is_ok_and(|bytes| is_it(&bytes, &target)) {
            continue;
        }
        let file = file_of(name, &target, client.has_consistent_snapshots());
        let bytes = targets.fetch_target(&file, target.length).await?.ok_or("the target is not there")?;
        if !is_it(&bytes, &target) {
            return Err("the target has another length or hash".into());
        }
        fs_err::write(path, bytes)?;
    }
    Ok(())
}

/// Where a target is: its hash stands before its name, where the repository does that.
fn file_of(name: &str, target: &TargetFile, consistent: bool) -> String {
    let hash = ["sha256", "sha512"].into_iter().find_map(|algorithm| target.hashes.get(algorithm));
    match hash.filter(|_| consistent) {
        Some(hash) => {
            let (folder, file) = name.rsplit_once('/').map_or(("", name), |(folder, file)| (folder, file));
            let path = Path::new(folder).join(format!("{hash}.{file}"));
            path.display().to_string()
        }
        None => name.to_owned(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    drop(rustls::crypto::ring::default_provider().install_default());
    let Err(error) = run(&Arguments::parse()).await else { return ExitCode::SUCCESS };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}
