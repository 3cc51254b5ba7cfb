//! What is wrong with policy.

codes! {
    policy: Policy {
        /// A source of policy exists but could not be read.
        ///
        /// Cause: permissions, a failing disk, or a file that vanished while it was read.
        ///
        /// Fix: repair what the message names. Until then every setting that the source could hold keeps its last good value.
        PolicyUnreadable = "policy.unreadable", Error;
        /// A source of policy could have been written by a user without administrator rights, so it is not used.
        ///
        /// Cause: a file or one of its folders belongs to another user, or group or others may write to it.
        ///
        /// Fix: `chown root:root` and `chmod go-w` what the message names.
        PolicyInsecureSource = "policy.insecure-place", Error;
        /// A policy file is larger than any policy can be.
        ///
        /// Cause: a wrong file in the policy folder.
        ///
        /// Fix: remove it, or split it; the limit is 1 MiB a file.
        PolicyTooLarge = "policy.too-large", Error;
        /// A policy document is not valid TOML, or not a valid property list.
        ///
        /// Cause: a typing mistake, another encoding than UTF-8, or a file that is only half written.
        ///
        /// Fix: correct the line that the message names; `steward policy check FILE` tries it without installing.
        PolicySyntax = "policy.syntax", Error;
        /// A file that should hold policy is empty.
        ///
        /// Cause: a write that was interrupted, a full disk, or a file that was emptied to withdraw its settings. Only an
        /// empty file that has the name of one in a weaker folder is meant to be empty.
        ///
        /// Fix: write the policy again, or remove the file. Until then its settings keep their last valid values.
        PolicyEmpty = "policy.empty", Error;
        /// Nothing in a document is for Steward.
        ///
        /// Cause: a profile with another payload type, a Registry.pol with another key, or a file that holds something
        /// else.
        ///
        /// Fix: as the message says. The document would set nothing on a device.
        PolicyForeign = "policy.foreign", Error;
        /// A part of a document, or a file beside the policy files, is not read.
        ///
        /// Cause: a name or a form that devices do not read.
        ///
        /// Fix: rename or move what the message names, or remove it.
        PolicyPassedOver = "policy.passed-over", Warning;
        /// A setting that usually binds is only recommended.
        ///
        /// Cause: in TOML, every key below the line `[Recommended]` belongs to that table, also one that a tool appends to
        /// the file.
        ///
        /// Fix: to enforce it, move the key above that line.
        PolicyOnlyRecommended = "policy.only-recommended", Warning;
        /// A value has the right type but is not allowed.
        ///
        /// Cause: a typing mistake, or a number out of its range.
        ///
        /// Fix: write one of the values that the message names.
        PolicyInvalidValue = "policy.invalid-value", Error;
        /// A value has the wrong type, for example text where a number belongs.
        ///
        /// Cause: quotes too many or too few, or another registry type.
        ///
        /// Fix: use the type that the message names.
        PolicyWrongType = "policy.wrong-type", Error;
        /// A key is not the name of any setting.
        ///
        /// Cause: a typing mistake, or a setting of a newer version.
        ///
        /// Fix: take the name that the message suggests, or remove the key. It has no effect.
        PolicyUnknownKey = "policy.unknown-key", Error;
        /// A key is set twice in one source, in different spellings.
        ///
        /// Cause: keys do not distinguish capitals, as in the Windows registry.
        ///
        /// Fix: remove one of the two.
        PolicyDuplicateKey = "policy.duplicate-key", Error;
        /// Two sources set the same key to different values; the stronger source wins.
        ///
        /// Cause: two policies overlap. `steward policy explain KEY` shows both.
        ///
        /// Fix: none needed if it is intended; else remove one of them.
        PolicyConflict = "policy.conflict", Note;
        /// Settings that are each valid contradict one another.
        ///
        /// Cause: the message names them and the reason.
        ///
        /// Fix: as the message says.
        PolicyContradiction = "policy.contradiction", Warning;
        /// A version that policy asks for cannot be reached with its other settings.
        ///
        /// Cause: a pin below the minimum version or in another channel, or a downgrade that leads to no older version or to one
        /// that policy excludes.
        ///
        /// Fix: as the message says.
        PolicyUnreachableVersion = "policy.unreachable-version", Error;
        /// A version is pinned while the app's own updater may install another one.
        ///
        /// Cause: `UpdatePinnedVersion` is set and `AppSelfUpdate` is not `none`. When the two work against each other,
        /// the app's installer can take the installation for broken and remove it.
        ///
        /// Fix: set `AppSelfUpdate` to `none` and let users restart the app before pinning.
        PolicyPinAgainstAppUpdater = "policy.pin-against-app-updater", Warning;
        /// A key still works under an old name.
        ///
        /// Cause: the policy was written for an older version.
        ///
        /// Fix: use the new name.
        PolicyDeprecatedKey = "policy.deprecated-key", Warning;
        /// No source has any policy.
        ///
        /// Cause: the device is not enrolled yet, or the policy was withdrawn.
        ///
        /// Fix: assign a policy to the device; a Linux drop-in goes to `/etc/steward/policy.d/`.
        PolicyMissing = "policy.missing", Note;
        /// Changes of policy are not noticed at once, only by the slow poll.
        ///
        /// Cause: the system gave no watch (for example, too many are in use).
        ///
        /// Fix: raise `fs.inotify.max_user_watches` or `fs.inotify.max_user_instances`.
        PolicyWatchFailed = "policy.watch-failed", Warning;
    }
}
