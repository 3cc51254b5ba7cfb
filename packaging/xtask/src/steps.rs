//! The steps of a long task: a heading in the log when each begins, and at the end a table of what each took.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Steps that have begun, in their order.
pub(crate) struct Steps {
    begun: Vec<(String, Instant)>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { begun: Vec::new() }
    }

    /// Ends the step before and begins one: prints its heading.
    pub(crate) fn begin(&mut self, name: &str) {
        println!("\n== {name}");
        self.begun.push((name.to_owned(), now()));
    }

    /// Ends the last step, and prints what each took and all together.
    pub(crate) fn end(self) {
        let end = now();
        let ends = self.begun.iter().skip(1).map(|(_, begin)| *begin).chain([end]);
        let rows: Vec<(&str, Duration)> = self
            .begun
            .iter()
            .zip(ends)
            .map(|((name, begin), end)| (name.as_str(), end.duration_since(*begin)))
            .collect();
        print!("\n{}", table(&rows));
    }
}

/// Rows of name and seconds, with the total below.
fn table(rows: &[(&str, Duration)]) -> String {
    let total: Duration = rows.iter().map(|(_, took)| *took).sum();
    let all =
        [&[("step", None)], &rows.iter().map(|(name, took)| (*name, Some(*took))).collect::<Vec<_>>()[..]];
    let width =
        rows.iter().map(|(name, _)| name.chars().count()).chain(["total".len()]).max().unwrap_or_default();
    let mut text = String::new();
    for (name, took) in all.concat().into_iter().chain([("total", Some(total))]) {
        let seconds = took.map_or("seconds".to_owned(), |took| format!("{:.1}", took.as_secs_f64()));
        let _ = writeln!(text, "{name:width$}  {seconds:>8}");
    }
    text
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "it measures its own steps; nothing is decided by it")]
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_shows_the_seconds_of_each_step_and_the_total() {
        let rows = [("format", Duration::from_millis(1240)), ("everything else", Duration::from_mins(10))];
        assert_eq!(
            table(&rows),
            "step              seconds\n\
             format                1.2\n\
             everything else     600.0\n\
             total               601.2\n"
        );
    }
}
