//! The version of what is installed, as operating systems write it.

use semver::{BuildMetadata, Prerelease, Version};

/// The version of a package of Linux: with an epoch before it and the revision of the package behind it, which are no part of
/// the app's version, and with `~` before a pre-release (Debian policy, section 5.6.12; rpm-version(7)).
#[must_use]
pub fn of_package(text: &str) -> Version {
    let text = text.trim();
    let without_epoch = match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        Some(_) | None => text,
    };
    let upstream = without_epoch.rsplit_once('-').map_or(without_epoch, |(upstream, _)| upstream);
    of_program(&upstream.replacen('~', "-", 1))
}

/// The version of a program, of an entry in the list of installed programs, or of a bundle: with two to four numbers. What
/// cannot be understood is older than every release.
#[must_use]
pub fn of_program(text: &str) -> Version {
    let text = text.trim();
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    if let Ok(version) = text.parse() {
        return version;
    }
    let end = text.find(|letter: char| letter != '.' && !letter.is_ascii_digit()).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0)).chain([0, 0, 0]);
    let mut next = || numbers.next().unwrap_or(0);
    let mut version = Version::new(next(), next(), next());
    if let Some(rest) = rest.strip_prefix('-') {
        let (pre, build) = rest.split_once('+').unwrap_or((rest, ""));
        version.pre = Prerelease::new(pre).unwrap_or_default();
        version.build = BuildMetadata::new(build).unwrap_or_default();
    }
    version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_package_is_that_of_the_app_in_it() {
        for (text, version) in [
            ("1.4.0", "1.4.0"),
            ("2:1.4.0-1", "1.4.0"),
            ("1.4.0-1.fc40", "1.4.0"),
            ("1.4.0~beta.1-1", "1.4.0-beta.1"),
            ("1.4.0~beta.1", "1.4.0-beta.1"),
            ("1.4-2ubuntu1", "1.4.0"),
            ("1.4.0+dfsg1-1~deb12u2", "1.4.0+dfsg1"),
            ("nightly", "0.0.0"),
            ("", "0.0.0"),
        ] {
            assert_eq!(of_package(text).to_string(), version, "{text}");
        }
    }

    #[test]
    fn version_of_program_has_three_numbers() {
        for (text, version) in [
            ("1.4.0", "1.4.0"),
            ("1.4.0.0", "1.4.0"),
            ("1.4", "1.4.0"),
            ("v2", "2.0.0"),
            ("1.4.0-beta.1", "1.4.0-beta.1"),
            ("1.4-beta.1+7", "1.4.0-beta.1+7"),
            ("01.04.00", "1.4.0"),
            ("1.4.0 (build 7)", "1.4.0"),
            ("99999999999999999999.1.0", "0.1.0"),
            ("unknown", "0.0.0"),
        ] {
            assert_eq!(of_program(text).to_string(), version, "{text}");
        }
    }
}
