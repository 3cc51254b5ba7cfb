//! Sign-in, sessions, and who may have tokens.

codes! {
    sign_in: SignIn {
        /// Sign-in is not configured: `Issuer` or `ClientId` is not set.
        ///
        /// Cause: the policy has not arrived, or lacks them.
        ///
        /// Fix: set both.
        SignInNotConfigured = "sign-in.not-configured", Error;
        /// No user is signed in, or the session has ended.
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
        /// The identity provider responds with an error of its own (status 429 or 5xx).
        ///
        /// Cause: it has failed, or is too busy. A session that exists is kept.
        ///
        /// Fix: wait; if it persists, report it to the operator of the identity provider.
        SignInProviderFailing = "sign-in.provider-failing", Error;
        /// The identity provider's discovery document cannot be used.
        ///
        /// Cause: the issuer in it differs from `Issuer` (a trailing slash, a missing `/v2.0`, a wrong path), or it is not a discovery document.
        ///
        /// Fix: set `Issuer` to exactly the value that the message shows.
        SignInDiscoveryInvalid = "sign-in.discovery-invalid", Error;
        /// The port of the redirect URI is in use by another program.
        ///
        /// Cause: another sign-in is open, for example the desktop app's own.
        ///
        /// Fix: finish or close it, then try again.
        SignInPortTaken = "sign-in.port-taken", Error;
        /// Windows keeps the port of the redirect URI for itself, so no program can listen there.
        ///
        /// Cause: Hyper-V, WSL or containers have reserved a range of ports that it is in (error 10013).
        ///
        /// Fix: `netsh int ipv4 show excludedportrange protocol=tcp` shows the ranges, which may be others after a restart of
        /// the device. Until then, `steward login --paste` needs no port.
        SignInPortReserved = "sign-in.port-reserved", Error;
        /// No browser could be opened.
        ///
        /// Cause: no desktop session, or none is installed.
        ///
        /// Fix: open the address that the message shows by hand on this device.
        SignInBrowserFailed = "sign-in.browser-failed", Warning;
        /// The sign-in was not finished in time.
        ///
        /// Cause: the browser was closed, or the identity provider showed an error (often a redirect URI that is not registered).
        ///
        /// Fix: try again; if the browser showed an error, register exactly the redirect URI that the message names.
        SignInTimedOut = "sign-in.timed-out", Error;
        /// The identity provider refused the sign-in.
        ///
        /// Cause: the message repeats its reason.
        ///
        /// Fix: see the identity provider's log.
        SignInDenied = "sign-in.denied", Error;
        /// A response of the identity provider cannot be used.
        ///
        /// Cause: a faulty or foreign response; the message says what is wrong with it.
        ///
        /// Fix: try again; if it persists, compare `Issuer`, `ClientId` and the endpoints with the identity provider.
        SignInTokenInvalid = "sign-in.token-invalid", Error;
        /// The browser came back in the name of another issuer, or of none (RFC 9207).
        ///
        /// Cause: a mix-up of two identity providers, or an attack.
        ///
        /// Fix: try again; if it persists, compare `Issuer` with the discovery document.
        SignInResponseIssuerMismatch = "sign-in.response-issuer-mismatch", Error;
        /// The token endpoint's response is not what RFC 6749 says: no JSON, no access token, a redirect, an error without a reason, or too long.
        ///
        /// Cause: a proxy or captive portal in between, a wrong `TokenEndpoint`, or a fault of the identity provider.
        ///
        /// Fix: open the address of the message in a browser on this device and see what responds.
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
        /// Fix: report it to the operator of the identity provider.
        SignInClaimMissing = "sign-in.claim-missing", Error;
        /// The ID token comes from another issuer than `Issuer`.
        ///
        /// Cause: `Issuer` names another tenant or version (a missing `/v2.0`), or the response is foreign.
        ///
        /// Fix: set `Issuer` to exactly what the discovery document calls its issuer.
        SignInIssuerMismatch = "sign-in.issuer-mismatch", Error;
        /// The ID token was made for another client.
        ///
        /// Cause: `ClientId` belongs to another app registration, or the response is foreign.
        ///
        /// Fix: compare `ClientId` with the app registration.
        SignInAudienceMismatch = "sign-in.audience-mismatch", Error;
        /// The ID token was issued to another party (claim `azp`).
        ///
        /// Cause: the response belongs to another client of the same identity provider.
        ///
        /// Fix: compare `ClientId` with the app registration.
        SignInPartyMismatch = "sign-in.authorized-party-mismatch", Error;
        /// The ID token belongs to another sign-in (claim `nonce`).
        ///
        /// Cause: a response that was replayed, or a provider that mixes up requests.
        ///
        /// Fix: try again.
        SignInNonceMismatch = "sign-in.nonce-mismatch", Error;
        /// The ID token had ended when it arrived.
        ///
        /// Cause: this device's clock is fast, or the response is old.
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
        /// Cause: a foreign or changed response.
        ///
        /// Fix: compare `JwksUri` with the discovery document; if it fits, report it as an attack.
        SignInSignatureInvalid = "sign-in.signature-invalid", Error;
        /// The ID token is signed with an algorithm that is not accepted; RS, PS and ES with 256, 384 or 512 are.
        ///
        /// Cause: the app registration demands another algorithm.
        ///
        /// Fix: choose RS256 for the app registration.
        SignInAlgorithmRefused = "sign-in.algorithm-refused", Error;
        /// The key that signed the ID token is not among the identity provider's keys, also after they were fetched anew.
        ///
        /// Cause: `JwksUri` belongs to another tenant, or the response is foreign.
        ///
        /// Fix: compare `JwksUri` with the discovery document.
        SignInKeyUnknown = "sign-in.key-unknown", Error;
        /// The access token does not belong to the ID token (claim `at_hash`).
        ///
        /// Cause: a response that was put together from two.
        ///
        /// Fix: try again; if it persists, report it to the operator of the identity provider.
        SignInAccessTokenMismatch = "sign-in.access-token-mismatch", Error;
        /// The userinfo endpoint names another user than the ID token.
        ///
        /// Cause: a mix-up at the identity provider, or an attack.
        ///
        /// Fix: report it to the operator of the identity provider.
        SignInUserInfoMismatch = "sign-in.user-info-mismatch", Error;
        /// After a renewal the response is about another user.
        ///
        /// Cause: a mix-up at the identity provider, or an attack. The session stays with its own user.
        ///
        /// Fix: `steward logout`, then sign in again.
        SignInSubjectChanged = "sign-in.subject-changed", Error;
        /// Sign-in on another device (RFC 8628) is not possible.
        ///
        /// Cause: `DeviceFlow` is `never`, or the identity provider does not offer it.
        ///
        /// Fix: set `DeviceFlow` to `fallback`, or use `steward login --paste`.
        SignInDeviceFlowUnavailable = "sign-in.device-flow-unavailable", Error;
        /// A program requested tokens that policy does not allow it to have.
        ///
        /// Cause: it is neither the managed app nor listed in `AllowedApplications`.
        ///
        /// Fix: if it should have them, add its absolute path to `AllowedApplications`.
        BrokerCallerRefused = "broker.caller-refused", Note;
        /// A program of `AllowedApplications` gets no token until the user confirms it.
        ///
        /// Cause: policy names it with `confirm:`, and the user was not asked, declined, or did not answer.
        ///
        /// Fix: use the program and allow it on the page that opens; or name it in policy without `confirm:`.
        BrokerConfirmationNeeded = "broker.confirmation-needed", Note;
        /// The user's address is missing from the ID token or is not of an allowed domain.
        ///
        /// Cause: the e-mail claim is missing at the identity provider, or `AllowedEmailDomains` does not list the domain.
        ///
        /// Fix: add the claim named in `EmailClaim`, or sign in with another account.
        SignInAddressRefused = "sign-in.address-refused", Error;
    }
}
