//! What each source sets for each setting, before it is decided which one holds; and the sources and keys that set
//! nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{LastGood, Level};
use crate::message::{did_you_mean, excerpt, one_of};
use crate::problem::{Code, Problem};
use crate::raw::{Notation, RawEntry, RawValue, ReadError, ReadErrorKind, Source};
use crate::read::RECOMMENDED;
use crate::settings::{Setting, find};

/// The number of unknown keys of one source that are named; the others are counted.
const MAXIMUM_UNKNOWN: usize = 50;

/// What one source sets for one setting: one entry, or several in different spellings.
pub(super) struct Candidate<'a> {
    pub(super) source: &'a str,
    pub(super) level: Level,
    pub(super) notation: Notation,
    pub(super) entries: Vec<(&'a str, &'a RawEntry)>,
    /// Why it does not set the setting, although its author must have meant to.
    pub(super) mistake: Option<Mistake>,
}

/// A key that is nearly the name of a setting, or one in a table that is none of ours.
pub(super) struct Mistake {
    /// The problem to report, unless another one is about it already.
    pub(super) problem: Option<Problem>,
    pub(super) message: String,
}

impl Candidate<'_> {
    pub(super) fn location(&self) -> String {
        match self.entries.iter().find_map(|(_, entry)| entry.line) {
            Some(line) => format!("{}, line {line}", self.source),
            None => self.source.to_owned(),
        }
    }
}

/// Why a source tells nothing. One that has only comments, where there were settings before, may have been cut off.
pub(super) fn failure<'s>(source: &'s Source, last_good: &LastGood) -> Option<Cow<'s, ReadError>> {
    match &source.contents {
        Err(error) => Some(Cow::Borrowed(error)),
        Ok(policy) if policy.is_empty() && last_good.has_values_of(&source.name) => {
            let error = ReadError::new(ReadErrorKind::Empty, "has no settings any more")
                .hint("write them again; to withdraw them, remove the file itself");
            Some(Cow::Owned(error))
        }
        Ok(_) => None,
    }
}

pub(super) fn unreadable(source: &Source, last_good: &LastGood) -> Option<Problem> {
    let error = failure(source, last_good)?;
    let code = match error.kind {
        ReadErrorKind::Unreadable => Code::PolicyUnreadable,
        ReadErrorKind::Insecure => Code::PolicyInsecureSource,
        ReadErrorKind::TooLarge => Code::PolicyTooLarge,
        ReadErrorKind::Syntax => Code::PolicySyntax,
        ReadErrorKind::Empty => Code::PolicyEmpty,
    };
    let location = error.at.map_or_else(|| source.name.clone(), |at| format!("{}, {at}", source.name));
    let using = if last_good.has_read(&source.name) {
        "the last valid values of its settings"
    } else {
        "the strict choice of every setting that it may hold"
    };
    Some(
        Problem::new(code, format!("{}, so it was not applied", error.message))
            .at(location)
            .using(using)
            .hint(error.hint.clone()),
    )
}

/// Sorts the values of all sources by setting, strongest first, and reports the keys that no setting has.
pub(super) fn collect<'a>(
    settings: &'static [Setting],
    sources: &[&'a Source],
    problems: &mut Vec<Problem>,
) -> BTreeMap<&'static str, Vec<Candidate<'a>>> {
    let mut all: BTreeMap<&'static str, Vec<Candidate<'a>>> = BTreeMap::new();
    for source in sources {
        let Ok(contents) = &source.contents else { continue };
        problems.extend(contents.remarks.iter().cloned().map(|mut remark| {
            remark.place = Some(match &remark.place {
                Some(inside) => format!("{}, {inside}", source.name),
                None => source.name.clone(),
            });
            remark
        }));
    }
    for level in [Level::Enforced, Level::Recommended] {
        for source in sources {
            let Ok(contents) = &source.contents else { continue };
            let entries = match level {
                Level::Enforced => &contents.enforced,
                Level::Recommended => &contents.recommended,
            };
            let candidate = |entries, mistake| Candidate {
                source: &source.name,
                level,
                notation: contents.notation,
                entries,
                mistake,
            };
            let mut here: BTreeMap<&'static str, Candidate<'a>> = BTreeMap::new();
            let mut unknown = Vec::new();
            for (written, entry) in entries {
                if let Some((setting, _)) = find(settings, written) {
                    here.entry(setting.key)
                        .or_insert_with(|| candidate(Vec::new(), None))
                        .entries
                        .push((written, entry));
                } else {
                    unknown.push((written, entry));
                }
            }
            for (written, entry) in unknown.iter().take(MAXIMUM_UNKNOWN) {
                let problem = unknown_key(settings, source, written, entry);
                let meant = meant_by(settings, written, entry);
                let mut problem = Some(problem);
                for setting in meant {
                    let message = format!("`{}` is not the name of a setting", excerpt(written));
                    here.entry(setting.key).or_insert_with(|| {
                        let mistake = Mistake { problem: problem.take(), message };
                        candidate(vec![(written.as_str(), *entry)], Some(mistake))
                    });
                }
                problems.extend(problem);
            }
            if unknown.len() > MAXIMUM_UNKNOWN {
                let message = format!("{} more keys that no setting has", unknown.len() - MAXIMUM_UNKNOWN);
                problems.push(Problem::new(Code::PolicyUnknownKey, message).at(&source.name));
            }
            for (key, candidate) in here {
                all.entry(key).or_default().push(candidate);
            }
        }
    }
    all
}

/// The settings that the author of an unknown key must have meant: a name that is nearly right, or names in a table.
fn meant_by(settings: &'static [Setting], written: &str, entry: &RawEntry) -> Vec<&'static Setting> {
    if let RawValue::Table(table) = &entry.value {
        return table.keys.iter().filter_map(|key| Some(find(settings, key)?.0)).collect();
    }
    nearly(settings, written)
}

/// The settings whose name is nearly a key: by letters, or by words, as `AllowedDomains` and `MaxSessionHours`. The most
/// likely is the first.
fn nearly(settings: &'static [Setting], written: &str) -> Vec<&'static Setting> {
    let words = words(written);
    let mut by_words: Vec<(usize, &Setting)> = settings
        .iter()
        .filter_map(|setting| Some((words_left(&words, &self::words(setting.key))?, setting)))
        .collect();
    by_words.sort_by_key(|(left, _)| *left);
    if let Some((fewest, _)) = by_words.first().copied() {
        return by_words
            .into_iter()
            .filter(|(left, _)| *left == fewest)
            .map(|(_, setting)| setting)
            .collect();
    }
    let nearest = did_you_mean(written, settings.iter().map(|setting| setting.key));
    nearest.and_then(|key| find(settings, key)).map(|(setting, _)| setting).into_iter().collect()
}

/// The words of a key, in lower case. What only says that a setting is switched on or off is none.
fn words(key: &str) -> Vec<String> {
    const VERBS: [&str; 7] = ["allow", "block", "disable", "enable", "force", "require", "set"];
    let mut words: Vec<String> = vec![String::new()];
    for character in key.chars().take(64) {
        if character.is_uppercase() || !character.is_alphanumeric() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| character.is_alphanumeric()) {
            word.extend(character.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    if words.len() > 1 && words.first().is_some_and(|first| VERBS.contains(&first.as_str())) {
        words.remove(0);
    }
    words
}

/// How many words of a name a key leaves out; `None` if it is not made of two or more words of the name.
fn words_left(written: &[String], name: &[String]) -> Option<usize> {
    let is_word = |written: &str, word: &str| {
        let (short, long) = if written.len() < word.len() { (written, word) } else { (word, written) };
        // An abbreviation, or a plural.
        long.starts_with(short) && (short.len() == long.len() || short.len() >= 3)
    };
    let mut left: Vec<&String> = name.iter().collect();
    for word in written {
        let at = left.iter().position(|candidate| is_word(word, candidate))?;
        left.remove(at);
    }
    (written.len() >= 2).then_some(left.len())
}

fn unknown_key(settings: &'static [Setting], source: &Source, written: &str, entry: &RawEntry) -> Problem {
    let name = excerpt(written);
    let location = entry.line.map_or(source.name.clone(), |line| format!("{}, line {line}", source.name));
    if let RawValue::Table(table) = &entry.value {
        let inside = meant_by(settings, written, entry).len();
        if inside > 0 {
            let (settings, them) = if inside == 1 {
                ("the setting in it is".to_owned(), "it")
            } else {
                (format!("the {inside} settings in it are"), "them")
            };
            let kind = if table.kind == "a table" { "a section" } else { table.kind };
            return Problem::new(
                Code::PolicyUnknownKey,
                format!("not {kind} that Steward knows; {settings} ignored"),
            )
            .key(name)
            .at(location)
            .hint(section_hint(source, written, them));
        }
    }
    let suggestion = nearly(settings, written);
    Problem::new(Code::PolicyUnknownKey, "no setting has this name, so it has no effect")
        .key(name)
        .at(location)
        .hint((!suggestion.is_empty()).then(|| {
            let keys = suggestion.iter().map(|setting| setting.key);
            format!("did you mean {}?", one_of(keys))
        }))
}

/// What to do about settings in a section that Steward does not know.
fn section_hint(source: &Source, written: &str, them: &str) -> String {
    let notation = source.contents.as_ref().map_or(Notation::Toml, |contents| contents.notation);
    let recommended = did_you_mean(written, std::iter::once(RECOMMENDED)).is_some();
    match notation {
        Notation::Toml if recommended => format!("did you mean [{RECOMMENDED}]?"),
        Notation::PropertyList | Notation::Registry if recommended => {
            format!("did you mean `{RECOMMENDED}`?")
        }
        Notation::Toml => {
            format!(
                "move {them} to the top level, before the first line in brackets, or below [{RECOMMENDED}]"
            )
        }
        Notation::PropertyList => {
            format!("move {them} out of the dictionary, or into one named `{RECOMMENDED}`")
        }
        Notation::Registry => {
            format!("move {them} to the key of the policy, or to its subkey `{RECOMMENDED}`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SETTINGS;

    /// Found by review: a restriction under such a name was withdrawn, and everybody could sign in.
    #[test]
    fn name_with_missing_other_or_reordered_words_means_the_setting() {
        for (written, meant) in [
            ("AllowedDomains", "AllowedEmailDomains"),
            ("EmailDomains", "AllowedEmailDomains"),
            ("AllowedEmails", "AllowedEmailDomains"),
            ("allowed_email_domain", "AllowedEmailDomains"),
            ("EmailDomainsAllowed", "AllowedEmailDomains"),
            ("MaxSessionHours", "SessionMaximumHours"),
            ("SessionMaximum", "SessionMaximumHours"),
            ("BlockSocialSignIn", "SocialSignIn"),
            ("RolloutPercent", "UpdateRolloutPercent"),
            ("UpdateDefer", "UpdateDeferDays"),
            ("Isuer", "Issuer"),
        ] {
            let found: Vec<&str> = nearly(SETTINGS, written).iter().map(|setting| setting.key).collect();
            assert_eq!(found, [meant], "{written}");
        }
        // Either may be meant.
        let found: Vec<&str> = nearly(SETTINGS, "PinnedVersion").iter().map(|setting| setting.key).collect();
        assert_eq!(found, ["UpdatePinnedVersion", "AgentPinnedVersion"]);
        // Settings of a newer version, and words that mean nothing here.
        for written in
            ["ReportUrlHeader", "UpdateFeedMirror", "Colour", "Url", "Update", "DashboardTheme", ""]
        {
            assert!(nearly(SETTINGS, written).is_empty(), "{written}");
        }
        // Each setting is itself and no other.
        for setting in SETTINGS {
            assert_eq!(nearly(SETTINGS, setting.key).first().map(|found| found.key), Some(setting.key));
        }
    }
}
