//! The same report for everybody who collects it. Pure: a report in, text out. A new dialect is a new module here.

use policy_schema::Problem;
use policy_schema::export::compliance::FACTS;
use protocol::report::Report;

mod intune;
mod jamf;
mod metrics;
pub(crate) mod opamp;
pub(crate) mod otlp;
mod prometheus;
mod resource;
mod text;

/// Who collects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// The report as it is sent.
    Json,
    /// One flat line for a custom compliance script of Intune.
    Intune,
    /// The rules for that line, to upload to Intune.
    IntuneRules,
    /// The result of an extension attribute of Jamf Pro.
    Jamf,
    /// Metrics in the text format of Prometheus.
    Prometheus,
    /// For users.
    Text,
}

/// Encodes a report.
pub(crate) fn encode(report: &Report, encoding: Encoding) -> String {
    match encoding {
        Encoding::Json => serde_json::to_string_pretty(report).unwrap_or_default() + "\n",
        Encoding::Intune => intune::encode(report),
        Encoding::IntuneRules => intune::rules(),
        Encoding::Jamf => jamf::encode(report),
        Encoding::Prometheus => prometheus::encode(report),
        Encoding::Text => text::encode(report),
    }
}

/// A report in one dialect, as the bytes that go out.
type Dialect = fn(&Report) -> Vec<u8>;

/// Every dialect in which a report goes out, with a name to print.
#[must_use]
pub fn dialects() -> [(&'static str, Dialect); 10] {
    [
        ("JSON", |report| serde_json::to_vec(report).unwrap_or_default()),
        ("heartbeat (JSON)", |report| serde_json::to_vec(&report.heartbeat()).unwrap_or_default()),
        ("OpAMP", opamp::whole),
        ("OTLP metrics", |report| otlp::metrics(report, None).0),
        ("OTLP metrics again", |report| {
            let (_, so) = otlp::metrics(report, None);
            otlp::metrics(report, Some(&so)).0
        }),
        ("OTLP logs", |report| {
            let problems: Vec<&Problem> = report.problems().collect();
            otlp::logs(report, &problems, &[])
        }),
        ("Prometheus", |report| prometheus::encode(report).into_bytes()),
        ("Intune", |report| intune::encode(report).into_bytes()),
        ("Jamf Pro", |report| jamf::encode(report).into_bytes()),
        ("text", |report| text::encode(report).into_bytes()),
    ]
}

/// One fact for an extension attribute of Jamf Pro; `None` if there is no fact of this name.
pub(crate) fn encode_fact(report: &Report, name: &str) -> Option<String> {
    let fact = FACTS.iter().find(|fact| fact.name == name)?;
    Some(jamf::fact(report, fact))
}

fn codes(report: &Report) -> String {
    codes_of(report).join(",")
}

/// The codes of all problems, each once.
fn codes_of(report: &Report) -> Vec<&str> {
    let mut codes: Vec<&str> = report.problems().map(|problem| plain_code(problem.code.as_str())).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// A code as this and newer versions write them. A broker of another user can write anything: that is no code, and a
/// collector may run as root.
fn plain_code(code: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if code.len() <= 64 && code.bytes().all(plain) { code } else { "unknown" }
}

#[cfg(test)]
mod tests {
    use policy_schema::{Code, Problem};
    use protocol::report::sample_report;
    use protocol::status::sample_status;
    use serde_json::Value;

    use super::*;

    fn report(code: Option<Code>) -> Report {
        let mut status = sample_status();
        status.problems.extend(code.map(|code| Problem::new(code, "<&\"")));
        status.problem_count = status.problems.len();
        sample_report(status, 1)
    }

    #[test]
    fn intune_gets_one_flat_line_with_every_key_whatever_the_state() {
        let keys = |text: &str| -> Vec<String> {
            assert_eq!(text.lines().count(), 1);
            let value: Value = serde_json::from_str(text).unwrap();
            let object = value.as_object().unwrap();
            assert!(object.values().all(|value| !value.is_object() && !value.is_array() && !value.is_null()));
            object.keys().cloned().collect()
        };
        let healthy = encode(&report(None), Encoding::Intune);
        let failing = encode(&report(Some(Code::PolicySyntax)), Encoding::Intune);
        assert_eq!(keys(&healthy), keys(&failing));
        let facts: Vec<String> = FACTS.iter().map(|fact| fact.name.to_owned()).collect();
        assert_eq!(keys(&healthy), facts, "the rules and the scripts know the same names");
        let values: Value = serde_json::from_str(&healthy).unwrap();
        for fact in FACTS {
            let (value, absent) = (&values[fact.name], fact.absent.value());
            assert_eq!((value.is_string(), value.is_number()), (absent.is_string(), absent.is_number()));
        }
        assert!(failing.contains("\"PolicyState\":\"fail\"") && failing.contains("policy.syntax"));
        assert!(healthy.contains("\"SignInState\":\"not-applicable\""), "neither pass nor fail: {healthy}");
    }

    #[test]
    fn jamf_gets_states_and_codes_only() {
        assert_eq!(encode(&report(None), Encoding::Jamf), "<result>pass</result>\n");
        assert_eq!(
            encode(&report(Some(Code::PolicySyntax)), Encoding::Jamf),
            "<result>fail: policy.syntax</result>\n"
        );
    }

    #[test]
    fn jamf_gets_each_fact_alone_and_nothing_that_could_be_markup() {
        let mut report = report(None);
        for (name, expected) in [
            ("PolicyState", "pass"),
            ("PolicyHash", "abc"),
            ("ObservedAt", "1970-01-01 00:00:00"),
            ("ProblemCount", "0"),
            ("SignedIn", "false"),
            ("ProblemCodes", ""),
        ] {
            let result = format!("<result>{expected}</result>\n");
            assert_eq!(encode_fact(&report, name), Some(result), "{name}");
        }
        assert_eq!(encode_fact(&report, "policystate"), None);
        report.status.policy.hash = "</result>".to_owned();
        assert_eq!(encode_fact(&report, "PolicyHash").as_deref(), Some("<result>unknown</result>\n"));
    }

    #[test]
    fn code_that_is_none_is_unknown() {
        for (code, shown) in [
            ("policy.syntax", "policy.syntax"),
            ("of-version.2", "of-version.2"),
            ("</result><result>pass", "unknown"),
            ("\u{1b}[2J", "unknown"),
            (&"a".repeat(65), "unknown"),
        ] {
            assert_eq!(plain_code(code), shown);
        }
    }

    #[test]
    fn prometheus_gets_one_true_state_per_component() {
        let text = encode(&report(Some(Code::UpdateHashMismatch)), Encoding::Prometheus);
        assert!(text.contains("steward_component_state{component=\"update\",state=\"fail\"} 1\n"));
        let ones =
            text.lines().filter(|line| line.starts_with("steward_component_state") && line.ends_with(" 1"));
        assert_eq!(ones.count(), 9);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn users_get_a_line_per_component() {
        let text = encode(&report(Some(Code::PolicySyntax)), Encoding::Text);
        assert!(text.contains("policy            fail"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.lines().filter(|line| !line.starts_with("      ")).count() == 9);
    }
}
