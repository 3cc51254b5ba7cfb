//! The settings that are one of a few names: each name once, with its explanation.

use crate::value::choice;

choice! {
    /// The identity providers that Steward knows.
    IdentityProvider {
        /// Any provider that follows OpenID Connect.
        Custom = "custom",
        /// Microsoft Entra ID.
        Entra = "entra",
        /// Okta.
        Okta = "okta",
        /// PingFederate.
        PingFederate = "pingfederate",
        /// PingOne.
        PingOne = "pingone",
        /// Google Workspace.
        Google = "google",
    }
}

choice! {
    /// What to do without a secret store.
    VaultFallback {
        /// Keep the session in memory only; users sign in again after a restart.
        Refuse = "refuse",
        /// Keep the session in an encrypted file with its key beside it, readable by the user only.
        EncryptedFile = "encrypted-file",
    }
}

choice! {
    /// When the device flow may be used.
    DeviceFlow {
        /// Not at all.
        Never = "never",
        /// When the browser sign-in cannot be used.
        Fallback = "fallback",
    }
}

choice! {
    /// Sign-in with personal accounts.
    SocialSignIn {
        /// The app may offer it.
        Allowed = "allowed",
        /// The app does not offer it.
        Blocked = "blocked",
    }
}

choice! {
    /// What the app's own updater may install.
    AppSelfUpdate {
        /// Every update.
        All = "all",
        /// Minor and patch updates, not major ones.
        MinorAndPatch = "minor-and-patch",
        /// Patch updates only.
        PatchOnly = "patch-only",
        /// No updates.
        None = "none",
    }
}

choice! {
    /// What happens with a new version.
    UpdateMode {
        /// The feed is not read.
        Off = "off",
        /// The new version is announced, not installed.
        Notify = "notify",
        /// The new version is installed.
        Automatic = "automatic",
    }
}

choice! {
    /// What happens to an app that is open when its update is ready.
    UpdateAppClose {
        /// Nothing. The update waits until the app is closed, and the user is not told.
        Never = "never",
        /// The user is told, and decides.
        Ask = "ask",
        /// The user is told, and the app is closed at the deadline of the update.
        ForceAtDeadline = "force-at-deadline",
    }
}

choice! {
    /// How reports name a user.
    ReportIdentity {
        /// Not at all.
        None = "none",
        /// By a code that is stable for this device and says nothing else.
        Pseudonym = "pseudonym",
        /// By e-mail address.
        Email = "email",
    }
}

choice! {
    /// Whether reports go with a certificate of the device.
    ReportCertificate {
        /// With the token alone.
        Never = "never",
        /// With a certificate, and with the token while there is none that the receiver takes.
        Preferred = "preferred",
        /// With a certificate only.
        Required = "required",
    }
}

choice! {
    /// What says that a report has arrived.
    ReportAcknowledgement {
        /// Status 202 or 204, or a body that repeats the report's `sequence`. A captive portal does neither.
        Receipt = "receipt",
        /// Any status of success.
        AnySuccess = "any-success",
    }
}

choice! {
    /// Which proxy is used.
    ProxyMode {
        /// The one that the environment or the system names.
        System = "system",
        /// None.
        Direct = "direct",
        /// The one in `ProxyUrl`.
        Fixed = "fixed",
    }
}

choice! {
    /// How much is logged.
    LogLevel {
        /// What went wrong and what changed.
        Info = "info",
        /// Only failures.
        Error = "error",
        /// Failures and what may become one.
        Warning = "warning",
        /// Each step.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}
