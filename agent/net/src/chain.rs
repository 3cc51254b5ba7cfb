//! The one chain printer: an error with its sources as text. Called wherever an error is shown, logged or put into a
//! problem.

/// An error with its sources on one line: `a: b: c`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let source_text = error.to_string();
        // Some errors of libraries repeat their source.
        if !text.ends_with(&source_text) {
            text = format!("{text}: {source_text}");
        }
        source = error.source();
    }
    text
}
