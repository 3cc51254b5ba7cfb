//! For users: a line for each component.
//!
//! Results of `writeln!` are ignored here: writing to a `String` cannot fail.

use std::fmt::Write as _;

use protocol::health::ComponentHealth;
use protocol::report::Report;

pub(super) fn encode(report: &Report) -> String {
    fn line(text: &mut String, part: &ComponentHealth, depth: usize) {
        let name = format!("{}{}", "  ".repeat(depth), part.name());
        let code = part.code.as_ref().map_or_else(String::new, |code| format!(" [{}]", code.as_str()));
        let instance = part.instance.as_ref().map_or_else(String::new, |instance| format!("{instance}: "));
        let _ = writeln!(text, "{name:<19} {:<14} {instance}{}{code}", part.state(), part.reason);
        for inner in &part.components {
            line(text, inner, depth + 1);
        }
    }
    let mut text = String::new();
    line(&mut text, &report.health, 0);
    text
}
