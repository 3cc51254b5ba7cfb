//! Health reports.

codes! {
    report: Report {
        /// A health report could not be delivered yet; it is kept on disk.
        ///
        /// Cause: network, proxy, or the receiver is down.
        ///
        /// Fix: none; the agent tries again with growing pauses.
        ReportUndelivered = "report.undelivered", Warning;
        /// The receiver refused a health report for good.
        ///
        /// Cause: a wrong `ReportEnrollmentToken` or `ReportUrl`.
        ///
        /// Fix: correct them.
        ReportRejected = "report.rejected", Error;
        /// The receiver of reports issued no certificate to this device.
        ///
        /// Cause: it does not take `ReportEnrollmentToken`, issues no certificates, or could not be reached.
        ///
        /// Fix: as the message says; the agent tries again with each report.
        ReportEnrollmentFailed = "report.enrollment-failed", Warning;
        /// The receiver of reports does not take the certificate of this device.
        ///
        /// Cause: an administrator of the receiver has revoked it, or the receiver has another certification authority now.
        ///
        /// Fix: if the device may report, push another `ReportEnrollmentToken`: the device then enrols again.
        ReportCertificateRefused = "report.certificate-refused", Error;
        /// Reports were dropped because the queue was full.
        ///
        /// Cause: the receiver was out of reach for long.
        ///
        /// Fix: restore the connection; the newest reports are kept.
        ReportDropped = "report.dropped", Warning;
        /// The file of metrics could not be written.
        ///
        /// Cause: its folder does not exist, or the agent may not write there. The service for Linux may write to
        /// `/var/lib/prometheus/node-exporter` only.
        ///
        /// Fix: create the folder and start the agent again, name another one in `ReportTextfile`, or let the service write there
        /// (`ReadWritePaths=`).
        ReportTextfileUnwritable = "report.textfile-unwritable", Warning;
    }
}
