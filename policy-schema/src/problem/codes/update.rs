//! Updates of the app.

codes! {
    update: Update {
        /// The release feed could not be fetched.
        ///
        /// Cause: network, proxy, or a wrong `UpdateFeed`.
        ///
        /// Fix: check the address; the agent tries again by itself.
        UpdateFeedUnreachable = "update.feed-unreachable", Error;
        /// The release feed is not a feed, or promises something that cannot be accepted.
        ///
        /// Cause: a mistake in publishing, a captive portal, or an attack. Nothing is installed.
        ///
        /// Fix: correct the feed.
        UpdateFeedInvalid = "update.feed-invalid", Error;
        /// The signed repository was not signed again in time.
        ///
        /// Cause: nobody renewed it, somebody holds back what is newer, or the clock of the device is wrong. Nothing new is installed; what
        /// is installed runs on.
        ///
        /// Fix: sign the repository again with `steward repo renew`, or change what the message names.
        UpdateFeedExpired = "update.feed-expired", Error;
        /// The signed repository, or a release in it, is not signed by whom policy trusts.
        ///
        /// Cause: a mistake in publishing, the wrong `UpdateTrustedRoots`, or an attack. Nothing of it is installed.
        ///
        /// Fix: find out who changed it with `steward repo verify`; compare `UpdateTrustedRoots` with what `steward repo status` prints.
        UpdateFeedUntrusted = "update.feed-untrusted", Error;
        /// The download broke off or could not be stored.
        ///
        /// Cause: network or disk. Nothing is installed.
        ///
        /// Fix: none for a network fault, the agent tries again; else make room.
        UpdateDownloadFailed = "update.download-failed", Error;
        /// The downloaded file has another size than the feed says.
        ///
        /// Cause: a truncated or exchanged file. Nothing is installed.
        ///
        /// Fix: publish feed and file together again.
        UpdateSizeMismatch = "update.size-mismatch", Error;
        /// The downloaded file has another SHA-512 than the feed says.
        ///
        /// Cause: a damaged or exchanged file. Nothing is installed.
        ///
        /// Fix: find out who changed it; publish feed and file together again.
        UpdateHashMismatch = "update.hash-mismatch", Error;
        /// The installer is not signed by a publisher that may install the app.
        ///
        /// Cause: the publisher has a new name, none is known for this app, or somebody else made the file. It is not started.
        ///
        /// Fix: find out who signed it; if that is the app's vendor, name it in `UpdatePublishers`.
        UpdatePublisherNotAccepted = "update.publisher-not-accepted", Error;
        /// A verified update could not be installed.
        ///
        /// Cause: a full disk, an installer that failed, or an archive that wants to write outside its folder. The version before
        /// stays.
        ///
        /// Fix: as the message says.
        UpdateInstallFailed = "update.install-failed", Error;
        /// The new version did not start, or failed right after a user started it, or its installer broke the one before, so the previous
        /// one was put back. The new one is quarantined.
        ///
        /// Cause: a faulty release, or something it needs is missing on this device.
        ///
        /// Fix: publish a corrected version; a quarantined version is not tried again by itself.
        UpdateRolledBack = "update.rolled-back", Error;
        /// The same file failed too often. The agent does not try it again.
        ///
        /// Cause: a faulty release, or something on this device that makes its installation fail.
        ///
        /// Fix: as the message says; then publish a corrected file, or let this one be tried again with
        /// `steward update release`.
        UpdateGivenUp = "update.given-up", Error;
        /// The feed changed while its file was downloaded.
        ///
        /// Cause: a release was published at that moment. The agent tries again in some minutes.
        ///
        /// Fix: none, unless it stays: then the feed and its file are not published together.
        UpdateFileMoved = "update.file-moved", Warning;
        /// What is installed is newer than the pin allows.
        ///
        /// Cause: the pin is older than the version that a device already has, and nothing allows a downgrade.
        ///
        /// Fix: name the downgrade in `UpdateDowngrades`, or raise the pin.
        UpdateNewerThanPin = "update.newer-than-pin", Warning;
        /// An administrator holds updates on this device.
        ///
        /// Cause: `steward update hold`.
        ///
        /// Fix: `steward update release`.
        UpdateHeld = "update.held", Note;
        /// An update is ready and waits until the app is closed.
        ///
        /// Cause: a user has the app open. `UpdateAppClose` says what happens to it, and when the user is told.
        ///
        /// Fix: close the app; the update is then installed within a minute.
        UpdateWaitsForApp = "update.waits-for-app", Note;
        /// An update waits because the app's own updater is active.
        ///
        /// Cause: `AppSelfUpdate` is not `none`, or the app has not been started again since it was. Two updaters at once make the
        /// app's installer remove its programs, so nothing is installed before that.
        ///
        /// Fix: set `AppSelfUpdate` to `none`; then quit the app and start it again. Closing it is not enough: it may install then what it
        /// has downloaded.
        UpdateWaitsForOwnUpdater = "update.waits-for-own-updater", Warning;
        /// A new version is ready and waits for a user, because `UpdateMode` is `notify`.
        ///
        /// Cause: the policy.
        ///
        /// Fix: install it, or set `UpdateMode` to `automatic`.
        UpdateAvailable = "update.available", Note;
    }
}
