//! Health reports: where they go and what they say.

use super::Setting;
use super::choices::{ReportAcknowledgement, ReportCertificate, ReportIdentity};
use crate::value::{Format, Literal, Secret};

settings! {
    reporting: "Reporting" {
        /// Report address
        ///
        /// Where health reports are sent as JSON. Unset, none are sent.
        ReportUrl => report_url: Option<String> = Setting::text(Format::Url, "https://steward.example.com/v1/reports");
        /// OpAMP address
        ///
        /// An OpAMP server that health is reported to. With wss the connection stays open, and a change arrives at once; with https the
        /// agent asks again and again.
        OpampUrl => opamp_url: Option<String> =
            Setting::text(Format::WebSocketUrl, "wss://opamp.example.com/v1/opamp");
        /// OpAMP token
        ///
        /// Sent to the OpAMP server as a bearer token (RFC 6750).
        OpampToken => opamp_token: Option<Secret> = Setting::secret(Format::BearerToken, "opamp-example");
        /// OTLP address
        ///
        /// An OpenTelemetry collector that metrics and logs are sent to, as JSON over HTTP. `/v1/metrics` and `/v1/logs` follow the
        /// address.
        OtlpUrl => otlp_url: Option<String> = Setting::text(Format::Url, "https://otel.example.com:4318");
        /// OTLP token
        ///
        /// Sent to the OpenTelemetry collector as a bearer token (RFC 6750).
        OtlpToken => otlp_token: Option<Secret> = Setting::secret(Format::BearerToken, "otlp-example");
        /// Textfile of metrics
        ///
        /// A file for the textfile collector of an exporter of Prometheus. The agent writes its metrics there after a change, and
        /// after the report interval.
        ReportTextfile => report_textfile: Option<String> =
            Setting::text(Format::Textfile, "/var/lib/prometheus/node-exporter/steward.prom");
        /// Report interval
        ///
        /// How often a report is sent while nothing changes. A change is reported at once.
        ReportIntervalMinutes => report_interval_minutes: u32 =
            Setting::integer(5, 1440, "minutes", 60).default(Literal::Integer(60));
        /// Report enrolment token
        ///
        /// Sent with each report as a bearer token (RFC 6750), so that the receiver knows its own devices.
        ReportEnrollmentToken => report_enrollment_token: Option<Secret> = Setting::secret(Format::BearerToken, "enrol-example");
        /// Certificate for reports
        ///
        /// Whether the device enrols with the receiver of reports (EST, RFC 7030) and then reports with a certificate of its own, over
        /// mutual TLS. `ReportEnrollmentToken` lets it enrol.
        ReportCertificate => report_certificate: ReportCertificate =
            Setting::choice(ReportCertificate::CHOICES, "preferred")
                .default(Literal::Text("never"))
                .strict(Literal::Text("required"));
        /// Acknowledgement of reports
        ///
        /// What says that a report has arrived. A report without an acknowledgement stays in the queue.
        ReportAcknowledgement => report_acknowledgement: ReportAcknowledgement =
            Setting::choice(ReportAcknowledgement::CHOICES, "any-success").default(Literal::Text("receipt"));
        /// User in reports
        ///
        /// How reports name the user who is signed in.
        ReportIdentity => report_identity: ReportIdentity =
            Setting::choice(ReportIdentity::CHOICES, "pseudonym").default(Literal::Text("none"));
        /// Device posture in reports
        ///
        /// Whether reports say what the device is like (operating system, memory, free disk space, uptime) and what protects it
        /// (encryption of disks, firewall, secure boot, lock of the screen, a pending restart).
        ReportPosture => report_posture: bool = Setting::boolean(true).strict(Literal::Boolean(false));
    }
}
