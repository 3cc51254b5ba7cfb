//! The terminal: its width, and whether it shows colours.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

/// Text is wrapped at this width where it goes to no terminal.
const WIDTH: usize = 80;
/// Wider lines are hard to read.
const MAXIMUM_WIDTH: usize = 120;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless the variable `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Something is wrong.
    Bad,
    /// Something should be done, or is not known.
    Doubtful,
    /// All is well.
    Good,
    /// Neither.
    Plain,
}

static CHOICE: OnceLock<ColorChoice> = OnceLock::new();

/// Takes what the command line says. Without it, nothing is coloured.
pub(super) fn set_color(color: Color) {
    let choice = match color {
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
        Color::Auto => AutoStream::choice(&std::io::stdout()),
    };
    CHOICE.get_or_init(|| choice);
}

/// Whether text is coloured.
pub(super) fn is_colored() -> bool {
    CHOICE.get().is_some_and(|choice| *choice != ColorChoice::Never)
}

/// A word of ours with its colour.
pub(super) fn painted(tone: Tone, word: &str) -> String {
    let style = match tone {
        Tone::Bad => Style::new().bold().fg_color(Some(AnsiColor::Red.into())),
        Tone::Doubtful => Style::new().bold().fg_color(Some(AnsiColor::Yellow.into())),
        Tone::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
        Tone::Plain => return word.to_owned(),
    };
    if is_colored() { format!("{style}{word}{style:#}") } else { word.to_owned() }
}

/// The width at which text is wrapped.
pub(super) fn width() -> usize {
    static COLUMNS: OnceLock<usize> = OnceLock::new();
    *COLUMNS.get_or_init(|| {
        let terminal = std::io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
        terminal.map_or(WIDTH, |(columns, _)| usize::from(columns.0).clamp(40, MAXIMUM_WIDTH))
    })
}

/// Clears the screen of a terminal.
pub(super) fn clear() {
    use std::io::Write as _;
    if std::io::stdout().is_terminal() {
        // A screen that cannot be cleared is no failure.
        let _ = write!(std::io::stdout(), "\u{1b}[2J\u{1b}[H");
    }
}
