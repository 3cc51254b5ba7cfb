//! A repository as a device sees it, read from its folder.

use std::io;
use std::path::PathBuf;

use platform::clock;
use updates::signed::{Client, Error, FetchFuture, MemoryStore, Repository as Source, TargetFile};

use super::{Part, Repository, hashes, hex};

/// One of the repositories, without a web server.
struct Folder(PathBuf);

impl Folder {
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.0.join(name);
        match fs_err::read(&path) {
            Ok(bytes) if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) => Ok(Some(bytes)),
            Ok(_) => Err(Error::transport(format!("{} is larger than devices accept", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path.display().to_string(), error)),
        }
    }
}

impl Source for Folder {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        let read = self.read(name, max_length);
        Box::pin(async move { read })
    }

    fn fetch_target<'a>(&'a self, _: &'a str, _: u64) -> FetchFuture<'a> {
        Box::pin(async { Ok(None) })
    }
}

/// Verifies a repository as a device does that trusts its first roots, and the files that it names. Gives what is wrong.
pub(crate) async fn verify(repository: &Repository) -> anyhow::Result<Vec<String>> {
    let (roots, now) = (repository.roots()?, clock::now());
    let mut wrong = Vec::new();
    let mut clients = Vec::new();
    for (part, root) in [(Part::Image, &roots.image), (Part::Director, &roots.director)] {
        let source = Folder(repository.public().join(part.name()));
        let mut client = Client::open(part.name(), source, MemoryStore::new(), root).await?;
        client.refresh(now).await?;
        clients.push(client);
    }
    wrong.extend(repository.interrupted_replacements().into_iter().map(|name| {
        format!("the replacement of the key `{name}` was interrupted: `steward repo replace-key` finishes it")
    }));
    for part in Part::ALL {
        wrong.extend(repository.signed_in_future(part)?.map(|at| {
            let part = part.name();
            format!("the timestamp of the {part} repository says that it was signed on {at}: if the clock was wrong, `steward repo replace-key online`")
        }));
    }
    let [image, director] = clients.as_mut_slice() else { return Ok(wrong) };
    for (path, directed) in director.targets() {
        match image.target(&path, now).await? {
            None => wrong.push(format!("{path}: the image repository does not have it")),
            Some(authentic)
                if (authentic.length, &authentic.hashes) != (directed.length, &directed.hashes) =>
            {
                wrong.push(format!("{path}: the image repository has it with another length or hash"));
            }
            Some(authentic) => wrong.extend(fault(repository, &path, &authentic)),
        }
    }
    // Devices take only what the director names; what is authentic has its file all the same.
    for (path, _) in image.targets() {
        if !director.targets().contains_key(&path)
            && let Some(authentic) = image.target(&path, now).await?
        {
            wrong.extend(fault(repository, &path, &authentic));
        }
    }
    Ok(wrong)
}

/// What is wrong with the file of a target.
fn fault(repository: &Repository, path: &str, target: &TargetFile) -> Option<String> {
    let (sha256, sha512) = (target.hashes.get("sha256")?, target.hashes.get("sha512")?);
    let (folder, name) = path.rsplit_once('/')?;
    let file = repository.path(Part::Image, &format!("targets/{folder}/{sha256}.{name}"));
    let found = match hashes(&file) {
        Ok(found) => found,
        Err(error) => return Some(format!("{path}: {error:#}")),
    };
    let same = found.0 == target.length && hex(&found.1.sha256) == *sha256 && hex(&found.1.sha512) == *sha512;
    (!same).then(|| format!("{path}: {} has another length or hash", file.display()))
}
