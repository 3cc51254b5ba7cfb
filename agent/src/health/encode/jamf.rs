//! The results of extension attributes of Jamf Pro.

use jiff::Timestamp;
use policy_schema::export::compliance::Fact;
use protocol::report::Report;

use super::{codes, intune};

/// `<result>` with one line of text. Codes and states need no escaping: they are plain names.
pub(super) fn encode(report: &Report) -> String {
    let codes = codes(report);
    let state = report.health.state();
    if codes.is_empty() { result(state) } else { result(&format!("{state}: {codes}")) }
}

/// The value of one fact, with the names of Intune's discovery output. Jamf writes times in its own way, as UTC.
pub(super) fn fact(report: &Report, fact: &Fact) -> String {
    let value = intune::facts(report).remove(fact.name).unwrap_or_default();
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let text = match text.parse::<Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => text,
    };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || " .,:+-_".contains(letter);
    if text.chars().all(plain) { result(&text) } else { result("unknown") }
}

fn result(text: &str) -> String {
    format!("<result>{text}</result>\n")
}
