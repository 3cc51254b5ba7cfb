//! For users: a paragraph for each component, in lines of at most 80 characters, unless a word is longer.
//!
//! Results of `writeln!` are ignored here: writing to a `String` cannot fail.

use std::fmt::Write as _;

use policy_schema::wrap;
use protocol::health::ComponentHealth;
use protocol::report::Report;

/// The longest line, in characters.
const WIDTH: usize = 80;

pub(super) fn encode(report: &Report) -> String {
    fn line(text: &mut String, part: &ComponentHealth, depth: usize) {
        let name = format!("{}{}", "  ".repeat(depth), part.name());
        let code = part.code.as_ref().map_or_else(String::new, |code| format!(" [{}]", code.as_str()));
        let instance = part.instance.as_ref().map_or_else(String::new, |instance| format!("{instance}: "));
        let begin = format!("{name:<19} {:<14} ", part.state());
        let indent = format!("\n{:1$}", "", begin.chars().count());
        let lines =
            wrap(&format!("{instance}{}{code}", part.reason), WIDTH - begin.chars().count().min(WIDTH / 2));
        let _ = writeln!(text, "{}", format!("{begin}{}", lines.join(&indent)).trim_end());
        for inner in &part.components {
            line(text, inner, depth + 1);
        }
    }
    let mut text = String::new();
    line(&mut text, &report.health, 0);
    text
}
