//! Sign-in on another device (RFC 8628).

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::Provider;
use super::documents::{self, Object};
use super::error::{Check, ProviderError, Refusal, one_line, untrusted};
use super::token_endpoint::{refusal, seconds};
use crate::tokens::Tokens;

/// How long a user may take, whatever the provider says, in seconds.
const LIFETIME: std::ops::RangeInclusive<u64> = 30..=1800;
/// How long to wait between two requests, in seconds; what holds if the provider does not say (section 3.2).
const INTERVAL: std::ops::RangeInclusive<u64> = 1..=60;
const USUAL_INTERVAL: u64 = 5;
/// By how many seconds the wait grows when the provider says that it is too short (section 3.5).
const SLOWER: u64 = 5;
/// The longest code that a user may have to type.
const LONGEST_USER_CODE: usize = 40;

/// A sign-in that a user finishes on another device (section 3.2).
pub(crate) struct DeviceRequest {
    device_code: String,
    user_code: String,
    address: Url,
    complete_address: Option<Url>,
    expires_in: Duration,
    interval: u64,
}

impl DeviceRequest {
    /// Where to go.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// What to type there.
    pub(crate) fn user_code(&self) -> String {
        self.user_code.clone()
    }

    /// Where to go without typing anything.
    pub(crate) fn complete_address(&self) -> Option<String> {
        self.complete_address.as_ref().map(ToString::to_string)
    }

    /// How long the user has.
    pub(crate) fn expires_in(&self) -> Duration {
        self.expires_in
    }

    fn read(body: &Object) -> Result<Self, String> {
        let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let plain = |name: &str| {
            let found = text(name).ok_or_else(|| format!("it has no {name}"))?;
            let is_plain = found.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
            if is_plain { Ok(found) } else { Err(format!("its {name} has characters outside RFC 8628")) }
        };
        let user_code = plain("user_code")?;
        if user_code.len() > LONGEST_USER_CODE {
            return Err("its user_code is too long to be typed".to_owned());
        }
        // Google's name for it came first.
        let address = text("verification_uri").or_else(|| text("verification_url"));
        let address = address.ok_or("it has no verification_uri")?;
        let lifetime = body.get("expires_in").and_then(seconds).unwrap_or(*LIFETIME.end());
        let lifetime = lifetime.clamp(*LIFETIME.start(), *LIFETIME.end());
        let interval = body.get("interval").and_then(seconds).unwrap_or(USUAL_INTERVAL);
        Ok(Self {
            device_code: plain("device_code")?.to_owned(),
            user_code: user_code.to_owned(),
            address: documents::protected(address)
                .map_err(|reason| format!("its verification_uri {reason}"))?,
            complete_address: text("verification_uri_complete")
                .and_then(|text| documents::protected(text).ok()),
            expires_in: Duration::from_secs(lifetime),
            interval: interval.clamp(*INTERVAL.start(), *INTERVAL.end()),
        })
    }
}

/// What to do after a request that brought no tokens (section 3.5).
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Ask again.
    Wait,
    /// Ask again, more slowly.
    WaitLonger,
    /// It is over.
    End(ProviderError),
}

fn next(error: ProviderError) -> Next {
    match error {
        ProviderError::Refused(refusal) if refusal.is("authorization_pending") => Next::Wait,
        ProviderError::Refused(refusal) if refusal.is("slow_down") => Next::WaitLonger,
        ProviderError::Refused(refusal) if refusal.is("expired_token") => {
            Next::End(ProviderError::DeviceCodeExpired(refusal))
        }
        // A network that breaks off, or a server that fails for a moment, does not end what a user is at.
        ProviderError::Unreachable { .. } | ProviderError::Failing { .. } => Next::WaitLonger,
        ended @ (ProviderError::NotConfigured(_)
        | ProviderError::Discovery(_)
        | ProviderError::Keys(_)
        | ProviderError::InvalidGrant(_)
        | ProviderError::Refused(_)
        | ProviderError::DeviceCodeExpired(_)
        | ProviderError::NoDeviceFlow
        | ProviderError::Untrusted { .. }) => Next::End(ended),
    }
}

impl Provider<'_> {
    /// Begins a sign-in on another device.
    pub(crate) async fn begin_on_another_device(&self) -> Result<DeviceRequest, ProviderError> {
        let endpoint =
            self.document().and_then(|document| document.device_authorization_endpoint.clone()?.ok());
        let endpoint = endpoint.ok_or(ProviderError::NoDeviceFlow)?;
        let scopes = std::iter::once("openid").chain(self.discovered.configuration.requested_scopes());
        let scope = scopes.collect::<Vec<_>>().join(" ");
        let response = self.post(&endpoint, &[("scope", scope.as_str())]).await?;
        if !(200..300).contains(&response.status) {
            return Err(refusal("the device authorization endpoint", &response));
        }
        let read = documents::object(&response.body).and_then(|body| DeviceRequest::read(&body));
        read.map_err(|reason| {
            let reason = format!("the device authorization response is not what RFC 8628 says: {reason}");
            untrusted(Check::TokenResponse, one_line(&reason))
        })
    }

    /// Waits until the user has finished on the other device. There is no `nonce`: the response comes straight from
    /// the provider.
    pub(crate) async fn finish_on_another_device(
        &mut self,
        request: &DeviceRequest,
    ) -> Result<Tokens, ProviderError> {
        let end = Instant::now() + request.expires_in;
        let mut interval = request.interval;
        let grant = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", request.device_code.as_str()),
        ];
        loop {
            // The last request comes before the code expires.
            let pause = Duration::from_secs(interval).min(end.saturating_duration_since(Instant::now()));
            tokio::time::sleep(pause).await;
            match self.request_tokens(&grant).await.map_err(next) {
                Ok(response) => return self.accept(response, None, true).await,
                Err(Next::End(error)) => return Err(error),
                Err(_) if Instant::now() >= end => {
                    let refusal = Refusal::new("expired_token", Some("nobody entered the code in time"));
                    return Err(ProviderError::DeviceCodeExpired(refusal));
                }
                Err(Next::Wait) => {}
                Err(Next::WaitLonger) => interval = (interval + SLOWER).min(*INTERVAL.end()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(change: &Value) -> Result<DeviceRequest, String> {
        let mut body = json!({
            "device_code": "d", "user_code": "WDJB-MJHT", "verification_uri": "https://a.example/device",
            "expires_in": 300, "interval": 5,
        });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        DeviceRequest::read(body.as_object().unwrap())
    }

    #[test]
    fn times_of_any_form_and_size_are_brought_into_their_limits() {
        for (interval, expected) in [
            (json!(null), 5),
            (json!(0), 1),
            (json!("7"), 7),
            (json!(2.5), 2),
            (json!(1e12), 60),
            (json!("often"), 5),
        ] {
            assert_eq!(request(&json!({ "interval": interval })).unwrap().interval, expected, "{interval}");
        }
        for (lifetime, expected) in
            [(json!(0), 30), (json!("600"), 600), (json!(1e12), 1800), (json!(null), 1800)]
        {
            let found = request(&json!({ "expires_in": lifetime })).unwrap().expires_in.as_secs();
            assert_eq!(found, expected, "{lifetime}");
        }
    }

    #[test]
    fn code_and_address_that_a_user_sees_are_plain_and_protected() {
        for (change, reason) in [
            (json!({ "user_code": "\u{1b}[2JA" }), "user_code has characters"),
            (json!({ "user_code": "A".repeat(41) }), "too long"),
            (json!({ "user_code": "" }), "no user_code"),
            (json!({ "device_code": 7 }), "no device_code"),
            (json!({ "verification_uri": "http://a.example/device" }), "not encrypted"),
            (json!({ "verification_uri": null }), "no verification_uri"),
        ] {
            let error = request(&change).err().unwrap();
            assert!(error.contains(reason), "{change}: {error}");
        }
        let google = json!({ "verification_uri": null, "verification_url": "https://g.example/device" });
        assert_eq!(request(&google).unwrap().address(), "https://g.example/device");
        let odd = request(&json!({ "verification_uri_complete": "javascript:alert(1)" })).unwrap();
        assert_eq!(odd.complete_address(), None);
    }

    #[test]
    fn moment_of_trouble_does_not_end_a_sign_in() {
        let refused = |code| ProviderError::Refused(Refusal::new(code, None));
        assert_eq!(next(refused("authorization_pending")), Next::Wait);
        assert_eq!(next(refused("slow_down")), Next::WaitLonger);
        let failing = ProviderError::Failing { reason: "503".to_owned(), retry_after: None };
        assert_eq!(next(failing), Next::WaitLonger);
        let reset = ProviderError::Unreachable { reason: "reset".to_owned(), arrived: true };
        assert_eq!(next(reset), Next::WaitLonger);
        assert!(matches!(next(refused("access_denied")), Next::End(ProviderError::Refused(_))));
        assert!(matches!(next(refused("expired_token")), Next::End(ProviderError::DeviceCodeExpired(_))));
    }
}
