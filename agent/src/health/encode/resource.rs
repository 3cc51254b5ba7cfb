//! What a report says about the agent and its device, as attributes by the semantic conventions of OpenTelemetry: the same for OTLP and
//! OpAMP. Without the name of the host, which often names a user.

use protocol::report::Report;

/// Names and values.
pub(super) type Attributes = Vec<(&'static str, String)>;

/// What tells this agent from others.
pub(super) fn identifying(report: &Report) -> Attributes {
    vec![
        ("service.name", "steward".to_owned()),
        ("service.version", report.status.agent_version.clone()),
        ("service.instance.id", report.device_id.clone()),
    ]
}

/// Where it runs.
pub(super) fn describing(report: &Report) -> Attributes {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let posture = report.posture.as_ref();
    let known = [
        ("os.description", posture.and_then(|posture| posture.operating_system.clone())),
        ("os.build_id", posture.and_then(|posture| posture.operating_system_build.clone())),
    ];
    let always = [("os.type", system.to_owned()), ("host.arch", architecture.to_owned())];
    always.into_iter().chain(known.into_iter().filter_map(|(name, value)| Some((name, value?)))).collect()
}
