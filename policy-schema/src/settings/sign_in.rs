//! Who signs in, and where.

use super::Setting;
use super::choices::{DeviceFlow, IdentityProvider, VaultFallback};
use crate::value::{Format, Literal, Secret};

settings! {
    sign_in: "Sign-in" {
        /// Identity provider
        ///
        /// The product that users sign in with. It supplies what differs between products, such as the extra
        /// parameters that Google needs for a refresh token. `custom` follows OpenID Connect alone.
        IdentityProvider => identity_provider: IdentityProvider =
            Setting::choice(IdentityProvider::CHOICES, "entra").default(Literal::Text("custom"));
        /// Issuer
        ///
        /// The issuer identifier of the identity provider, exactly as its discovery document says it: a trailing slash
        /// or a missing `/v2.0` makes another issuer. Sign-in needs this and the client ID.
        Issuer => issuer: Option<String> =
            Setting::text(Format::Issuer, "https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/v2.0");
        /// Client ID
        ///
        /// The identifier of the public (native) client that is registered at the identity provider.
        ClientId => client_id: Option<String> = Setting::text(Format::ClientId, "3c1f2d9e-7a54-4a0c-8f54-5f8f9f1d2b77");
        /// Authorization endpoint
        ///
        /// Where the browser is sent. Needed only where discovery is not possible; it otherwise wins over discovery.
        AuthorizationEndpoint => authorization_endpoint: Option<String> =
            Setting::text(Format::Url, "https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/oauth2/v2.0/authorize");
        /// Token endpoint
        ///
        /// Where codes and refresh tokens are exchanged. Needed only where discovery is not possible.
        TokenEndpoint => token_endpoint: Option<String> =
            Setting::text(Format::Url, "https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/oauth2/v2.0/token");
        /// JWKS URI
        ///
        /// Where the identity provider publishes its signing keys. Needed only where discovery is not possible.
        JwksUri => jwks_uri: Option<String> =
            Setting::text(Format::Url, "https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/discovery/v2.0/keys");
        /// Client secret
        ///
        /// Only Google's desktop clients have one. It reaches every device, so it protects nothing (RFC 8252, section 8.5).
        /// With every other provider it is not used, because it would be the secret of a server.
        ClientSecret => client_secret: Option<Secret> = Setting::secret(Format::ClientSecret, "GOCSPX-example");
        /// Additional audiences
        ///
        /// Audiences that may stand beside the client ID in an ID token (claim `aud`). Zitadel, for example, names the project
        /// as well. An ID token that is for any other audience too is refused.
        AdditionalAudiences => additional_audiences: Vec<String> =
            Setting::list(Format::ClientId, 20, &["287614532671029351"]).default(Literal::List(&[]));
        /// Scopes
        ///
        /// The scopes to request. Without `offline_access`, users have to sign in again every hour or so (Google is the exception).
        Scopes => scopes: Vec<String> = Setting::list(Format::Scope, 32, &["openid", "email", "profile", "offline_access"])
            .default(Literal::List(&["openid", "email", "profile", "offline_access"]));
        /// Redirect URI
        ///
        /// Where the browser comes back to. Register exactly this at the identity provider, as a native (desktop)
        /// redirect.
        RedirectUri => redirect_uri: String = Setting::text(Format::RedirectUri, "http://localhost:18080")
            .default(Literal::Text("http://localhost:18080"));
        /// E-mail claim
        ///
        /// The claim of the ID token that holds the user's address.
        EmailClaim => email_claim: String = Setting::text(Format::Claim, "email").default(Literal::Text("email"));
        /// Allowed e-mail domains
        ///
        /// Only users with an address in one of these domains may sign in. Unset, every user whom the identity provider
        /// lets in; an empty list, none. One domain that is not valid makes the whole list invalid.
        AllowedEmailDomains => allowed_email_domains: Option<Vec<String>> =
            Setting::list(Format::Domain, 100, &["example.com"]).strict(Literal::List(&[]));
        /// Domain hint
        ///
        /// Sent to the identity provider so that it does not ask users which organisation they belong to.
        DomainHint => domain_hint: Option<String> = Setting::text(Format::Domain, "example.com");
        /// Sign in at logon
        ///
        /// Opens the sign-in when a user who is not signed in logs on to the device, rather than when an app first requests a
        /// token.
        SignInAtLogon => sign_in_at_logon: bool = Setting::boolean(false).user_may_override();
        /// Longest session
        ///
        /// After this number of hours a user must sign in again, even if the identity provider would allow a longer session.
        SessionMaximumHours => session_maximum_hours: Option<u32> =
            Setting::integer(1, 8760, "hours", 720).strict(Literal::Integer(1));
        /// Allowed applications
        ///
        /// Programs besides the managed app and Steward itself that may request tokens: absolute paths, or names of
        /// managed apps. A script cannot be named: a policy that allows its interpreter allows every script. Name only programs
        /// that users cannot write to. With `confirm:` before it, as in `confirm:/opt/example/bin/example`, a program gets its
        /// first token once the user has allowed it on a page in the browser, and is asked about again after a sign-out.
        /// One item that is not valid makes the whole list invalid.
        AllowedApplications => allowed_applications: Vec<String> =
            Setting::list(Format::Application, 100, &["/opt/example/bin/example"]).default(Literal::List(&[]));
        /// Session store without a keyring
        ///
        /// What to do where the operating system offers no secret store.
        VaultFallback => vault_fallback: VaultFallback =
            Setting::choice(VaultFallback::CHOICES, "encrypted-file").default(Literal::Text("refuse"));
        /// Device flow
        ///
        /// Whether users may sign in on another device (RFC 8628) when no browser can be used here.
        DeviceFlow => device_flow: DeviceFlow =
            Setting::choice(DeviceFlow::CHOICES, "fallback").default(Literal::Text("never"));
    }
}
