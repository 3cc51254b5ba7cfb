//! Policy documents that an administrator names on the command line: files of each kind, folders, standard input.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use platform::directory::is_drop_in;
use platform::paths::{Paths, folder_of};
use policy_schema::export::DOMAIN;
use policy_schema::raw::{RawPolicy, ReadError, ReadErrorKind, Source};
use policy_schema::read::{MAXIMUM_BYTES, document, may_be_shown};
use policy_schema::{Code, LastGood, Problem, Resolved, Severity, resolve, visible};

use crate::app::descriptor;

/// One policy in one or more documents.
#[derive(Default)]
pub(super) struct Documents {
    /// The last is the strongest.
    pub(super) sources: Vec<Source>,
    /// What is wrong with the documents as files: with names, folders and modes.
    pub(super) problems: Vec<Problem>,
    /// The content of text files, for messages.
    pub(super) texts: BTreeMap<String, String>,
}

impl Documents {
    /// Reads files and folders; `-` is standard input.
    pub(super) fn read(paths: &Paths, files: &[PathBuf]) -> Self {
        let mut documents = Self::default();
        for (path, number) in files.iter().zip(1_u32..) {
            if path.is_dir() {
                documents.add_folder(paths, path, number);
            } else {
                documents.add_file(paths, path, number);
            }
        }
        documents
    }

    /// The same, if all of them could be opened. Without one of them a policy is another policy.
    pub(super) fn opened(self) -> anyhow::Result<Self> {
        match self.problems.iter().find(|problem| problem.severity.is_error()) {
            Some(problem) => anyhow::bail!("{problem}"),
            None => Ok(self),
        }
    }

    /// What the documents mean, with everything that is wrong with them.
    pub(super) fn resolve(&self) -> Resolved {
        let mut resolved = resolve(&self.sources, &LastGood::default());
        resolved.problems.extend(self.problems.iter().cloned());
        resolved.problems.extend(descriptor::unknown(&resolved.policy));
        resolved
    }

    /// The line that a problem is about, with a mark below its column; `None` if there is none, or if it may hold a secret.
    pub(super) fn excerpt(&self, problem: &Problem) -> Option<Vec<String>> {
        let (name, place) = problem.place.as_deref()?.rsplit_once(", line ")?;
        let (line, column) = match place.split_once(", column ") {
            Some((line, column)) => (line.parse::<usize>().ok()?, column.parse::<usize>().ok()?),
            None => (place.parse().ok()?, 1),
        };
        let text = self.texts.get(name)?.lines().nth(line.checked_sub(1)?)?;
        if !may_be_shown(text) || text.trim().is_empty() {
            return None;
        }
        let shown =
            |length: usize| visible(&text.replace('\t', " ").chars().take(length).collect::<String>());
        let number = line.to_string();
        let mut lines = vec![format!("{number} | {}", shown(100))];
        if column > 1 {
            let before = shown(column - 1).chars().count();
            lines.push(format!("{} | {}^", " ".repeat(number.len()), " ".repeat(before)));
        }
        Some(lines)
    }

    fn add_folder(&mut self, paths: &Paths, folder: &Path, number: u32) {
        let reading = platform::policy::read_folder(paths, folder);
        if reading.sources.is_empty() {
            let message = "has no policy file; their names end in .toml";
            self.problems.push(Problem::new(Code::PolicyForeign, message).at(folder.display().to_string()));
        }
        // One number for each document, in which the sources of a folder keep their order.
        let mut sources = reading.sources;
        sources.sort_by_key(|source| source.rank);
        let first = number.saturating_mul(1000);
        for (source, rank) in sources.iter_mut().zip(first..) {
            source.rank = rank;
            self.remember_text(Path::new(&source.name), &source.name);
        }
        self.sources.extend(sources);
        // Files beside another folder than one of policy are none of ours.
        let is_policy_folder = platform::policy::is_policy_folder(paths, folder);
        let is_inside =
            |problem: &Problem| problem.place.as_deref().is_some_and(|at| Path::new(at).starts_with(folder));
        let passed_over = reading.passed_over.into_iter();
        self.problems.extend(passed_over.filter(|problem| is_policy_folder || is_inside(problem)));
    }

    fn add_file(&mut self, paths: &Paths, path: &Path, number: u32) {
        if let Some(contents) = path.to_str().and_then(platform::policy::read_named_key) {
            let name = path.display().to_string();
            self.sources.push(Source { rank: number.saturating_mul(1000), name, contents });
            return;
        }
        let is_input = path == Path::new("-");
        let name = if is_input { "standard input".to_owned() } else { path.display().to_string() };
        let bytes = match if is_input { read_input() } else { read_file(path) } {
            Ok(bytes) => bytes,
            // That says nothing of what a device would do with the document.
            Err(error) => {
                return self.problems.push(Problem::new(Code::PolicyUnreadable, error.message).at(name));
            }
        };
        if let Ok(text) = std::str::from_utf8(&bytes) {
            self.texts.insert(name.clone(), text.to_owned());
        }
        let contents = document::read(&bytes, DOMAIN).and_then(|policy| {
            if is_input { Ok(policy) } else { self.as_the_agent_would(paths, path, policy) }
        });
        self.sources.push(Source { rank: number.saturating_mul(1000), name, contents });
    }

    /// Of a file in a policy folder, also what the agent says about its name, owner and mode.
    fn as_the_agent_would(
        &mut self,
        paths: &Paths,
        path: &Path,
        policy: RawPolicy,
    ) -> Result<RawPolicy, ReadError> {
        let folder = folder_of(path);
        if !platform::policy::is_policy_folder(paths, folder) {
            return Ok(policy);
        }
        if !is_drop_in(path) {
            let message = "the agent does not read this file: the name of a policy file ends in .toml and begins with no dot";
            let mut problem = Problem::new(Code::PolicyPassedOver, message).at(path.display().to_string());
            problem.severity = Severity::Error.into();
            self.problems.push(problem.hint("rename it".to_owned()));
            return Ok(policy);
        }
        let name = path.file_name();
        let reading = platform::policy::read_folder(paths, folder);
        let own = reading.sources.into_iter().find(|source| {
            source.contents.is_err()
                && (Path::new(&source.name).file_name() == name || Path::new(&source.name) == folder)
        });
        match own.map(|source| source.contents) {
            Some(Err(error)) if error.kind == ReadErrorKind::Insecure => Err(error),
            Some(_) | None => Ok(policy),
        }
    }

    fn remember_text(&mut self, path: &Path, name: &str) {
        let text = read_file(path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        self.texts.extend(text.map(|text| (name.to_owned(), text)));
    }
}

fn read_input() -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(MAXIMUM_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| ReadError::new(ReadErrorKind::Unreadable, error.to_string()))?;
    within_limit(bytes)
}

fn read_file(path: &Path) -> Result<Vec<u8>, ReadError> {
    let unreadable = |failure: std::io::Error| {
        let usual = [
            (std::io::ErrorKind::NotFound, "file not found"),
            (std::io::ErrorKind::PermissionDenied, "you may not read it"),
        ];
        let known = usual.into_iter().find(|(kind, _)| *kind == failure.kind());
        let message = known.map_or_else(|| failure.to_string(), |(_, message)| message.to_owned());
        ReadError::new(ReadErrorKind::Unreadable, message)
    };
    let metadata = fs_err::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(ReadError::new(ReadErrorKind::Unreadable, "is not a file"));
    }
    if metadata.len() > MAXIMUM_BYTES {
        let message = format!("has {} bytes; a policy file has at most {MAXIMUM_BYTES}", metadata.len());
        return Err(ReadError::new(ReadErrorKind::TooLarge, message));
    }
    within_limit(fs_err::read(path).map_err(unreadable)?)
}

fn within_limit(bytes: Vec<u8>) -> Result<Vec<u8>, ReadError> {
    if bytes.len() as u64 <= MAXIMUM_BYTES {
        return Ok(bytes);
    }
    let message = format!("has more than {MAXIMUM_BYTES} bytes, the maximum for a policy file");
    Err(ReadError::new(ReadErrorKind::TooLarge, message))
}
