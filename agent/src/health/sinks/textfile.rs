//! Metrics in a file, for the textfile collectors of Prometheus. In: where, and what a report is made of. Out: what is wrong. The file
//! is replaced as a whole, so no collector ever reads half of it. One that policy does not name any more is removed: nothing would
//! update it, and a collector would go on to call the device healthy.

use std::io;
use std::path::{Path, PathBuf};

use platform::file::{self, Access};
use platform::paths::Paths;
use platform::state::StateFile;
use policy_schema::{Code, Extra, Problem};
use serde::{Deserialize, Serialize};

use super::SinkOutcome;
use crate::health::encode::{Encoding, encode};
use crate::health::identity::Identity;
use crate::health::report::{self, ReportInputs};
use crate::state::{private_folder, unwritable};

/// Which file was written last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Written {
    path: Option<PathBuf>,
    #[serde(flatten)]
    extra: Extra,
}

/// Writes the file, if policy names one, and removes the one that it named before.
pub(crate) async fn update(path: Option<String>, inputs: ReportInputs, identity: Identity) -> SinkOutcome {
    let paths = inputs.paths.clone();
    let path = path.map(|path| paths.under_root(Path::new(&path)));
    let (problem, protections) = match (forget(&paths, path.as_deref()), &path) {
        (Err(error), _) => (Some(unwritable(record(&paths).path(), &error)), Vec::new()),
        (Ok(()), None) => (None, Vec::new()),
        (Ok(()), Some(path)) => {
            let (report, protections) = report::make(&inputs, &identity).await;
            let text = encode(&report, Encoding::Prometheus);
            let written = file::replace(path, text.as_bytes(), Access::Public);
            (written.err().map(|error| failed(path, &error)), protections)
        }
    };
    let retry = problem.is_some();
    SinkOutcome { problem, retry, protections, ..SinkOutcome::nothing() }
}

/// Removes the file that was written last.
///
/// # Errors
/// The system refused.
pub(crate) fn remove(paths: &Paths) -> io::Result<Option<PathBuf>> {
    let written = record(paths).peek().ok().flatten().and_then(|written| written.path);
    let Some(path) = written.filter(|path| path.exists()) else { return Ok(None) };
    file::remove(&path)?;
    Ok(Some(path))
}

/// Removes the file that was written last, if it is not this one, and notes this one before it is written.
fn forget(paths: &Paths, path: Option<&Path>) -> io::Result<()> {
    let record = record(paths);
    let known = record.load().ok().flatten().unwrap_or_default();
    if known.path.as_deref() == path {
        return Ok(());
    }
    if let Some(old) = known.path.as_ref().filter(|old| old.exists()) {
        file::remove(old)?;
    }
    record.save(&Written { path: path.map(ToOwned::to_owned), ..known })
}

fn failed(path: &Path, error: &io::Error) -> Problem {
    let problem = Problem::new(Code::ReportTextfileUnwritable, error.to_string())
        .key("ReportTextfile")
        .at(path.display().to_string())
        .using("nothing: collectors that read it know nothing about this device");
    if error.kind() == io::ErrorKind::NotFound {
        problem.hint("create the folder, which comes with the collector".to_owned())
    } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        let hint = "start the agent again if the folder is newer than it; else let it write there: `systemctl edit steward-agent`, with `[Service]` and `ReadWritePaths=` and the folder";
        problem.hint(hint.to_owned())
    } else {
        problem
    }
}

fn record(paths: &Paths) -> StateFile<Written> {
    StateFile::new(private_folder(paths).join("textfile.json"), Access::Private)
}
