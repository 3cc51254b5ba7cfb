//! What users can paste into a shell.

use std::path::Path;

/// A path as one word of a POSIX shell.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_./-+=:@%,~".contains(letter);
    if !text.is_empty() && !text.starts_with(['~', '-']) && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_with_a_blank_or_a_quote_stays_one_word() {
        for path in ["plain/a.toml", "with blank", "it's", "$HOME/x", "-x", "~", "", "a;b", "\u{e9}"] {
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", quoted(Path::new(path))))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), path);
        }
        assert_eq!(quoted(Path::new("plain/a.toml")), "plain/a.toml");
    }
}
