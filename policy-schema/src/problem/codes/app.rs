//! The managed app and its configuration.

codes! {
    app: App {
        /// `App` names an app that this agent does not know.
        ///
        /// Cause: a typing mistake, or an app of a newer version.
        ///
        /// Fix: use a name that the message lists.
        AppUnknown = "app.unknown", Error;
        /// The app is not installed, although policy asks for a version of it.
        ///
        /// Cause: the app was not deployed, was removed, or is installed for one user only.
        ///
        /// Fix: deploy the app for the whole device, or unset `UpdatePinnedVersion` and `UpdateMinimumVersion`.
        AppNotInstalled = "app.not-installed", Error;
        /// The app's managed configuration could not be written.
        ///
        /// Cause: a full or read-only disk, or permissions.
        ///
        /// Fix: repair what the message names; the agent tries again every minute.
        AppConfigurationUnwritable = "app.configuration-unwritable", Error;
        /// The app's configuration could not be read, so it is not known whether it is as policy says.
        ///
        /// Cause: permissions, a failing disk, or something else than a file where the file belongs.
        ///
        /// Fix: repair what the message names; the agent tries again every minute.
        AppConfigurationUnreadable = "app.configuration-unreadable", Error;
        /// The app finds another value than policy says, and it is not the agent's to change.
        ///
        /// Cause: on Windows a Group Policy of the app's own sets it, which the agent never fights; on macOS the profile for
        /// the app is missing or another one is installed.
        ///
        /// Fix: make both say the same; on macOS deploy the profile that `steward export --format mobileconfig` writes.
        AppConfigurationConflict = "app.configuration-conflict", Error;
        /// The app was started before its configuration changed, and reads it only when it starts.
        ///
        /// Cause: no user has restarted it since.
        ///
        /// Fix: quit the app and start it again.
        AppRestartPending = "app.restart-pending", Warning;
    }
}
