//! THE list of stable codes, each with its meaning, cause and fix.

use serde::{Deserialize, Serialize};

use super::Severity;

/// One code as the reference shows it.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    /// The code.
    pub code: Code,
    /// Meaning, cause and fix: the three paragraphs of the doc comment, line by line.
    pub documentation: &'static [&'static str],
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $severity:ident;)+) => {
        /// A stable problem code. Codes are API: never renamed, never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "export", derive(schemars::JsonSchema))]
        pub enum Code {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl Code {
            /// The code as printed, for example `policy.invalid-value`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// How much a problem of this code matters, unless whoever reports it says otherwise.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }
        }

        /// Every code with its documentation, in the order of the reference.
        pub static CODES: &[CodeInfo] = &[$(CodeInfo { code: Code::$variant, documentation: &[$($doc),+] },)+];
    };
}

codes! {
    /// A policy place exists but could not be read.
    ///
    /// Cause: permissions, a failing disk, or a file that vanished while it was read.
    ///
    /// Fix: repair what the message names. Until then every setting that the place could hold keeps its last good value.
    PolicyUnreadable = "policy.unreadable", Error;
    /// A policy place could have been written by somebody without administrator rights, so it is not believed.
    ///
    /// Cause: a file or one of its folders belongs to another user, or group or others may write to it.
    ///
    /// Fix: `chown root:root` and `chmod go-w` what the message names.
    PolicyInsecurePlace = "policy.insecure-place", Error;
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
    /// A key stands twice in one place, in different spellings.
    ///
    /// Cause: keys do not distinguish capitals, as in the Windows registry.
    ///
    /// Fix: remove one of the two.
    PolicyDuplicateKey = "policy.duplicate-key", Error;
    /// Two places set the same key to different values; the stronger place wins.
    ///
    /// Cause: two policies overlap. `steward policy explain KEY` shows both.
    ///
    /// Fix: none needed if it is intended; else remove one of them.
    PolicyConflict = "policy.conflict", Note;
    /// Settings that are each valid contradict one another.
    ///
    /// Cause: the message says which and why.
    ///
    /// Fix: as the message says.
    PolicyContradiction = "policy.contradiction", Warning;
    /// A key still works under an old name.
    ///
    /// Cause: the policy was written for an older version.
    ///
    /// Fix: use the new name.
    PolicyDeprecatedKey = "policy.deprecated-key", Warning;
    /// A setting is valid and kept, but this version of the agent does not act on it yet.
    ///
    /// Cause: the setting belongs to a part that a later version brings.
    ///
    /// Fix: none; it takes effect after the agent's update.
    PolicyNotYetEffective = "policy.not-yet-effective", Warning;
    /// No place holds any policy.
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
    /// The agent could not write its own state.
    ///
    /// Cause: a full or read-only disk.
    ///
    /// Fix: make room in the folder that the message names. The agent works on and tries again with the next change.
    AgentStateUnwritable = "agent.state-unwritable", Error;
    /// A local API refused a request.
    ///
    /// Cause: the caller may not do this, or the question was not understood.
    ///
    /// Fix: as the message says; what changes the machine needs root.
    ApiRefused = "api.refused", Error;
    /// `App` names an app that this agent does not know.
    ///
    /// Cause: a typing mistake, or an app of a newer version.
    ///
    /// Fix: use a name that the message lists.
    AppUnknown = "app.unknown", Error;
    /// The app's managed configuration could not be written, or what lies there could not be read.
    ///
    /// Cause: a full or read-only disk, or permissions.
    ///
    /// Fix: repair what the message names; the agent tries again every minute.
    AppConfigurationUnwritable = "app.configuration-unwritable", Error;
    /// The app finds another value than policy says, and it is not the agent's to change.
    ///
    /// Cause: on Windows a Group Policy of the app's own sets it, which the agent never fights; on macOS the profile for
    /// the app is missing or another one is installed.
    ///
    /// Fix: make both say the same; on macOS deploy the profile that `steward export --format mobileconfig` writes.
    AppConfigurationConflict = "app.configuration-conflict", Error;
    /// The app was started before its configuration changed, and reads it only when it starts.
    ///
    /// Cause: nobody has restarted it since.
    ///
    /// Fix: quit the app and start it again.
    AppRestartPending = "app.restart-pending", Warning;
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
    /// A verified update could not be installed.
    ///
    /// Cause: a full disk, or an archive that wants to write outside its folder. The version before stays.
    ///
    /// Fix: as the message says.
    UpdateInstallFailed = "update.install-failed", Error;
    /// The new version did not start, so the previous one was put back. The new one is held.
    ///
    /// Cause: a faulty release, or something it needs is missing on this device.
    ///
    /// Fix: publish a corrected version; a held version is not tried again by itself.
    UpdateRolledBack = "update.rolled-back", Error;
    /// A new version is ready and waits for a person, because `UpdateMode` is `notify`.
    ///
    /// Cause: the policy.
    ///
    /// Fix: install it, or set `UpdateMode` to `automatic`.
    UpdateAvailable = "update.available", Note;
    /// Sign-in is not configured: `Issuer` or `ClientId` is not set.
    ///
    /// Cause: the policy has not arrived, or lacks them.
    ///
    /// Fix: set both.
    SignInNotConfigured = "sign-in.not-configured", Error;
    /// Nobody is signed in, or the session has ended.
    ///
    /// Cause: first start, sign-out, `SessionMaximumHours`, or the identity provider ended the session.
    ///
    /// Fix: `steward login`, or start the app.
    SignInRequired = "sign-in.required", Note;
    /// The identity provider could not be reached.
    ///
    /// Cause: network, proxy or name resolution. A session that exists is kept.
    ///
    /// Fix: restore the connection; nothing else needs to be done.
    SignInProviderUnreachable = "sign-in.provider-unreachable", Error;
    /// The identity provider's discovery document cannot be used.
    ///
    /// Cause: the issuer in it differs from `Issuer` (a trailing slash, a missing `/v2.0`, a wrong path), or it is no such document.
    ///
    /// Fix: set `Issuer` to exactly the value that the message shows.
    SignInDiscoveryInvalid = "sign-in.discovery-invalid", Error;
    /// The port of the redirect URI is in use by another program.
    ///
    /// Cause: another sign-in is open, for example the desktop app's own.
    ///
    /// Fix: finish or close it, then try again.
    SignInPortTaken = "sign-in.port-taken", Error;
    /// No browser could be opened.
    ///
    /// Cause: no desktop session, or none is installed.
    ///
    /// Fix: open the address that the message shows by hand on this device.
    SignInBrowserFailed = "sign-in.browser-failed", Warning;
    /// The sign-in was not finished in time.
    ///
    /// Cause: the browser was closed, or the identity provider showed an error of its own (often a redirect URI that is not registered).
    ///
    /// Fix: try again; if the browser showed an error, register exactly the redirect URI that the message names.
    SignInTimedOut = "sign-in.timed-out", Error;
    /// The identity provider refused the sign-in.
    ///
    /// Cause: the message repeats its reason.
    ///
    /// Fix: see the identity provider's log.
    SignInDenied = "sign-in.denied", Error;
    /// An answer of the identity provider cannot be used.
    ///
    /// Cause: a faulty or foreign answer; the message says what is wrong with it.
    ///
    /// Fix: try again; if it persists, compare `Issuer`, `ClientId` and the endpoints with the identity provider.
    SignInTokenInvalid = "sign-in.token-invalid", Error;
    /// The browser came back in the name of another issuer, or of none (RFC 9207).
    ///
    /// Cause: a mix-up of two identity providers, or an attack.
    ///
    /// Fix: try again; if it persists, compare `Issuer` with the discovery document.
    SignInResponseIssuerMismatch = "sign-in.response-issuer-mismatch", Error;
    /// The token endpoint's answer is not what RFC 6749 says: no JSON, no access token, a redirect, an error without a reason, or too long.
    ///
    /// Cause: a proxy or captive portal in between, a wrong `TokenEndpoint`, or a fault of the identity provider.
    ///
    /// Fix: open the address of the message in a browser on this device and see who answers.
    SignInTokenEndpointInvalid = "sign-in.token-endpoint-invalid", Error;
    /// The identity provider sent no ID token.
    ///
    /// Cause: `openid` is not among the scopes, or the address belongs to an OAuth server without OpenID Connect.
    ///
    /// Fix: add `openid` to `Scopes`; compare `TokenEndpoint` with the discovery document.
    SignInIdTokenMissing = "sign-in.id-token-missing", Error;
    /// The ID token lacks a claim that OpenID Connect demands, or has it in a wrong form.
    ///
    /// Cause: a faulty identity provider.
    ///
    /// Fix: report it to whoever runs the identity provider.
    SignInClaimMissing = "sign-in.claim-missing", Error;
    /// The ID token comes from another issuer than `Issuer`.
    ///
    /// Cause: `Issuer` names another tenant or version (a missing `/v2.0`), or the answer is foreign.
    ///
    /// Fix: set `Issuer` to exactly what the discovery document calls its issuer.
    SignInIssuerMismatch = "sign-in.issuer-mismatch", Error;
    /// The ID token was made for another client.
    ///
    /// Cause: `ClientId` does not belong to the app registration that answered, or the answer is foreign.
    ///
    /// Fix: compare `ClientId` with the app registration.
    SignInAudienceMismatch = "sign-in.audience-mismatch", Error;
    /// The ID token was issued to another party (claim `azp`).
    ///
    /// Cause: the answer belongs to another client of the same identity provider.
    ///
    /// Fix: compare `ClientId` with the app registration.
    SignInPartyMismatch = "sign-in.authorized-party-mismatch", Error;
    /// The ID token belongs to another sign-in (claim `nonce`).
    ///
    /// Cause: an answer that was replayed, or a provider that mixes up requests.
    ///
    /// Fix: try again.
    SignInNonceMismatch = "sign-in.nonce-mismatch", Error;
    /// The ID token had ended when it arrived.
    ///
    /// Cause: this device's clock is fast, or the answer is old.
    ///
    /// Fix: set the clock; then try again.
    SignInTokenExpired = "sign-in.token-expired", Error;
    /// The ID token does not hold yet.
    ///
    /// Cause: this device's clock is slow.
    ///
    /// Fix: set the clock; then try again.
    SignInTokenNotYetValid = "sign-in.token-not-yet-valid", Error;
    /// The signature of the ID token is wrong, or it has none.
    ///
    /// Cause: a foreign or changed answer.
    ///
    /// Fix: compare `JwksUri` with the discovery document; if it fits, report it as an attack.
    SignInSignatureInvalid = "sign-in.signature-invalid", Error;
    /// The ID token is signed with an algorithm that is not accepted; RS and PS with 256, 384 or 512 and ES with 256 or 384 are.
    ///
    /// Cause: the app registration asks for another algorithm.
    ///
    /// Fix: choose RS256 for the app registration.
    SignInAlgorithmRefused = "sign-in.algorithm-refused", Error;
    /// The key that signed the ID token is not among the identity provider's keys, also after they were fetched anew.
    ///
    /// Cause: `JwksUri` belongs to another tenant, or the answer is foreign.
    ///
    /// Fix: compare `JwksUri` with the discovery document.
    SignInKeyUnknown = "sign-in.key-unknown", Error;
    /// The access token does not belong to the ID token (claim `at_hash`).
    ///
    /// Cause: an answer that was put together from two.
    ///
    /// Fix: try again; if it persists, report it to whoever runs the identity provider.
    SignInAccessTokenMismatch = "sign-in.access-token-mismatch", Error;
    /// The userinfo endpoint speaks of another person than the ID token.
    ///
    /// Cause: a mix-up at the identity provider, or an attack.
    ///
    /// Fix: report it to whoever runs the identity provider.
    SignInUserInfoMismatch = "sign-in.user-info-mismatch", Error;
    /// After a renewal the answer is about another person.
    ///
    /// Cause: a mix-up at the identity provider, or an attack. The session stays with its own person.
    ///
    /// Fix: `steward logout`, then sign in again.
    SignInSubjectChanged = "sign-in.subject-changed", Error;
    /// Sign-in on another device (RFC 8628) is not possible.
    ///
    /// Cause: `DeviceFlow` is `never`, or the identity provider does not offer it.
    ///
    /// Fix: set `DeviceFlow` to `fallback`, or use `steward login --paste`.
    SignInDeviceFlowUnavailable = "sign-in.device-flow-unavailable", Error;
    /// A program asked for tokens that policy does not allow to have them.
    ///
    /// Cause: it is neither the managed app nor listed in `AllowedApplications`.
    ///
    /// Fix: if it should have them, add its absolute path to `AllowedApplications`.
    BrokerCallerRefused = "broker.caller-refused", Note;
    /// The person's address is missing from the ID token or is not of an allowed domain.
    ///
    /// Cause: the e-mail claim is missing at the identity provider, or `AllowedEmailDomains` does not list the domain.
    ///
    /// Fix: add the claim named in `EmailClaim`, or sign in with another account.
    SignInAddressRefused = "sign-in.address-refused", Error;
    /// The secret store of the session cannot be used, so the session is kept in memory only.
    ///
    /// Cause: no Secret Service runs, or it is locked.
    ///
    /// Fix: start or unlock the keyring, or set `VaultFallback` to `encrypted-file`.
    VaultUnavailable = "vault.unavailable", Warning;
    /// The session is kept in an encrypted file whose key lies beside it.
    ///
    /// Cause: no secret store, and `VaultFallback` is `encrypted-file`.
    ///
    /// Fix: none if it is intended; else start a keyring.
    VaultDegraded = "vault.degraded", Warning;
    /// The saved session could not be opened and was put aside.
    ///
    /// Cause: a damaged file, or a key of another device or user.
    ///
    /// Fix: sign in again.
    VaultCorrupt = "vault.corrupt", Error;
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
    /// Reports were dropped because the queue was full.
    ///
    /// Cause: the receiver was out of reach for long.
    ///
    /// Fix: restore the connection; the newest reports are kept.
    ReportDropped = "report.dropped", Warning;
}
