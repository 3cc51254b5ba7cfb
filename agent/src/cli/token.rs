//! `steward token`: a token of the broker, in the format of the program that reads it.

use std::fmt::Write as _;
use std::io::Read as _;

use anyhow::{Context as _, bail, ensure};
use broker::configuration::Configuration;
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use net::http::Http;
use platform::paths::Paths;
use platform::{clock, environment};
use protocol::broker::{TOKEN, TokenRequest, TokenResponse};
use quick_xml::events::Event;
use serde_json::json;
use url::Url;

use super::sign_in::call;

/// Git may send this many bytes to a credential helper.
const MAXIMUM_ATTRIBUTES: u64 = 64 * 1024;
/// A response of AWS may have this many bytes.
const MAXIMUM_RESPONSE: usize = 64 * 1024;
/// The default endpoint of AWS STS (AWS General Reference, "AWS STS endpoints").
const STS: &str = "https://sts.amazonaws.com/";

#[derive(Args)]
pub(super) struct Arguments {
    /// The program that the token is for.
    #[arg(long, value_enum, default_value = "raw")]
    format: Format,
    /// Print the ID token instead of the access token.
    #[arg(long)]
    id_token: bool,
    /// Open the browser if no user is signed in.
    #[arg(long)]
    interactive: bool,
    /// A server refused the token although it had not expired: print a newer one. Renews at most once a minute.
    #[arg(long)]
    rejected: bool,
    /// The account, by address or subject; by default the one that signed in last.
    #[arg(long)]
    account: Option<String>,
    /// Fewer scopes than those of the sign-in, separated by spaces.
    #[arg(long)]
    scope: Option<String>,
    /// The resource that the access token is for (RFC 8707).
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// The role to assume.
    #[arg(long, value_name = "ARN", required_if_eq("format", "aws"))]
    role_arn: Option<String>,
    /// The endpoint of AWS STS; a region or a private network may have its own.
    #[arg(long, value_name = "URL", default_value = STS)]
    sts_url: Url,
    /// How long the credentials are valid, in seconds; by default AWS decides.
    #[arg(long, value_name = "SECONDS")]
    duration_seconds: Option<u32>,
    /// The action of a Git credential helper: `get`, `store` or `erase`.
    #[arg(hide = true)]
    action: Option<String>,
}

/// The program that a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The token alone.
    Raw,
    /// Both tokens, with their scopes and expiry times.
    Json,
    /// A header for HTTP: `steward token --format header | curl -H @- ...`.
    Header,
    /// kubectl and other Kubernetes clients (`ExecCredential`): the ID token.
    Kubernetes,
    /// AWS tools (`credential_process`): credentials of a role, in exchange for the ID token.
    Aws,
    /// Git (a credential helper).
    Git,
}

pub(super) async fn token(paths: &Paths, arguments: Arguments, json: bool) -> anyhow::Result<()> {
    let format = if json { Format::Json } else { arguments.format };
    if let Some(word) = arguments.action.as_ref().filter(|_| format != Format::Git) {
        bail!("unexpected `{word}`; to choose an account, use `--account {word}`");
    }
    if format == Format::Git && arguments.action.as_deref().is_some_and(|action| action != "get") {
        // The broker stores and deletes tokens itself.
        return Ok(());
    }
    let git = match format {
        Format::Git => Some(Attributes::read()?),
        Format::Raw | Format::Json | Format::Header | Format::Kubernetes | Format::Aws => None,
    };
    if git.as_ref().is_some_and(|attributes| !attributes.is_safe()) {
        bail!("Git would send the token over a connection that is not encrypted; use https");
    }
    let identity = arguments.id_token || matches!(format, Format::Kubernetes | Format::Aws);
    let request = TokenRequest {
        interactive: arguments.interactive,
        account: arguments.account,
        scope: arguments.scope,
        resource: arguments.resource,
        id_token: identity,
        renew: false,
        rejected: None,
    };
    let mut grant = call(paths, &TOKEN, &request).await?;
    if arguments.rejected {
        let request = TokenRequest { rejected: Some(grant.access_token), ..request };
        grant = call(paths, &TOKEN, &request).await?;
    }
    let token = if identity { &grant.id_token } else { &grant.access_token };
    // Each format is a line, or part of one, for a program that trusts it.
    ensure!(
        token.bytes().all(|byte| byte.is_ascii_graphic()),
        "the token has characters that no token may have, so it is not printed"
    );
    match format {
        Format::Raw => out!("{token}"),
        Format::Json => out!("{}", serde_json::to_string_pretty(&grant)?),
        Format::Header => out!("Authorization: Bearer {token}"),
        Format::Kubernetes => out!("{}", exec_credential(&grant, clock::now())),
        Format::Aws => {
            let role = arguments.role_arn.context("--role-arn is missing")?;
            let request = RoleRequest { role: &role, seconds: arguments.duration_seconds };
            out!("{}", assume_role(paths, arguments.sts_url, request, &grant).await?);
        }
        Format::Git => {
            let expires = clock::now() + SignedDuration::from_secs(grant.expires_in);
            out!("{}", git.unwrap_or_default().response(token, expires).trim_end());
        }
    }
    Ok(())
}

/// A credential for Kubernetes (kubernetes.io, "Client Authentication (v1)"), in the version that the caller asks for.
fn exec_credential(grant: &TokenResponse, now: Timestamp) -> serde_json::Value {
    let version = environment::variable("KUBERNETES_EXEC_INFO")
        .and_then(|info| serde_json::from_str::<serde_json::Value>(&info).ok())
        .and_then(|info| info["apiVersion"].as_str().map(ToOwned::to_owned))
        .filter(|version| version.starts_with("client.authentication.k8s.io/"))
        .unwrap_or_else(|| "client.authentication.k8s.io/v1".to_owned());
    let expires = now + SignedDuration::from_secs(grant.id_token_expires_in);
    let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "apiVersion": version,
        "kind": "ExecCredential",
        "status": { "token": grant.id_token, "expirationTimestamp": expires },
    })
}

struct RoleRequest<'a> {
    role: &'a str,
    seconds: Option<u32>,
}

/// Exchanges the ID token for credentials of a role (AWS STS, `AssumeRoleWithWebIdentity`), in the format of
/// `credential_process` (AWS SDKs and Tools Reference, "Process credential provider").
async fn assume_role(
    paths: &Paths,
    sts: Url,
    request: RoleRequest<'_>,
    grant: &TokenResponse,
) -> anyhow::Result<serde_json::Value> {
    ensure!(sts.scheme() == "https" || policy_schema::is_loopback(&sts), "--sts-url must be https");
    let configuration = Configuration::load(paths).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let http = Http::new(&configuration.network)?;
    let name = session_name(&grant.account);
    let seconds = request.seconds.map(|seconds| seconds.to_string());
    let form = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", request.role),
        ("RoleSessionName", &name),
        ("WebIdentityToken", &grant.id_token),
    ];
    let form = form.into_iter().chain(seconds.as_deref().map(|seconds| ("DurationSeconds", seconds)));
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let response = http.post_form(&sts, form, MAXIMUM_RESPONSE).await?;
    let status = response.status;
    let part = |name: &str| {
        first_text(&response.body, name)
            .with_context(|| format!("AWS responded with status {status} and without `{name}`"))
    };
    if status != 200 {
        let reason = part("Message").or_else(|_| part("Code"))?;
        bail!("AWS refused ({status}): {}", reason.chars().take(300).collect::<String>());
    }
    Ok(json!({
        "Version": 1,
        "AccessKeyId": part("AccessKeyId")?,
        "SecretAccessKey": part("SecretAccessKey")?,
        "SessionToken": part("SessionToken")?,
        "Expiration": part("Expiration")?,
    }))
}

/// The text of the first element with this name.
fn first_text(xml: &[u8], name: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_reader(xml);
    let mut buffer = Vec::new();
    let mut inside = false;
    let mut text = String::new();
    loop {
        match reader.read_event_into(&mut buffer).ok()? {
            Event::Start(start) => inside = start.local_name().as_ref() == name,
            Event::Text(part) if inside => text.push_str(&part),
            Event::End(_) if inside => return Some(text),
            Event::Eof => return None,
            Event::End(_)
            | Event::Empty(_)
            | Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
        buffer.clear();
    }
}

/// A session name with the characters and the length that AWS accepts: 2 to 64.
fn session_name(account: &str) -> String {
    let accepted = |letter: char| letter.is_ascii_alphanumeric() || "_+=,.@-".contains(letter);
    let name: String =
        account.chars().map(|letter| if accepted(letter) { letter } else { '-' }).take(64).collect();
    if name.len() < 2 { format!("steward-{name}") } else { name }
}

/// The attributes that Git sends to a credential helper (gitcredentials(7), git-credential(1)).
#[derive(Default)]
struct Attributes {
    protocol: String,
    host: String,
    username: Option<String>,
    /// Git 2.46 and later can send a bearer token.
    accepts_tokens: bool,
}

impl Attributes {
    fn read() -> anyhow::Result<Self> {
        let mut text = String::new();
        std::io::stdin().lock().take(MAXIMUM_ATTRIBUTES).read_to_string(&mut text)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut attributes = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match name {
                "protocol" => value.clone_into(&mut attributes.protocol),
                "host" => value.clone_into(&mut attributes.host),
                "username" => attributes.username = Some(value.to_owned()),
                "capability[]" if value == "authtype" => attributes.accepts_tokens = true,
                _ => {}
            }
        }
        attributes
    }

    /// Whether the token goes over an encrypted connection or stays on this device.
    fn is_safe(&self) -> bool {
        let url = Url::parse(&format!("{}://{}/", self.protocol, self.host));
        self.protocol == "https"
            || url.is_ok_and(|url| url.scheme() == "http" && policy_schema::is_loopback(&url))
    }

    fn response(&self, token: &str, expires: Timestamp) -> String {
        let mut response = String::new();
        if self.accepts_tokens {
            response.push_str("capability[]=authtype\nauthtype=Bearer\nephemeral=1\n");
            // Writing to a String cannot fail.
            let _ = writeln!(response, "credential={token}");
        } else {
            let username = self.username.as_deref().unwrap_or("oauth2");
            let _ = writeln!(response, "username={username}\npassword={token}");
        }
        let _ = writeln!(response, "password_expiry_utc={}", expires.as_second());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_gets_the_format_of_its_version_and_no_token_over_plain_http() {
        let at = Timestamp::from_second(1000).unwrap();
        let old = Attributes::parse("protocol=https\nhost=git.example.com\nusername=ada\n\n");
        assert!(old.is_safe());
        assert_eq!(old.response("t", at), "username=ada\npassword=t\npassword_expiry_utc=1000\n");
        let new = Attributes::parse("capability[]=authtype\nprotocol=http\nhost=127.0.0.1:8080\n");
        assert!(new.is_safe());
        assert!(new.response("t", at).contains("authtype=Bearer\nephemeral=1\ncredential=t\n"));
        for unsafe_one in ["protocol=http\nhost=git.example.com\n", "protocol=ssh\nhost=localhost\n", ""] {
            assert!(!Attributes::parse(unsafe_one).is_safe(), "{unsafe_one:?}");
        }
    }

    #[test]
    fn only_elements_of_the_aws_response_are_read() {
        let xml = "<?xml version=\"1.0\"?><R xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Credentials>\
                   <AccessKeyId>AK</AccessKeyId><SessionToken>a/b+c==</SessionToken><Empty/></Credentials></R>";
        assert_eq!(first_text(xml.as_bytes(), "AccessKeyId").as_deref(), Some("AK"));
        assert_eq!(first_text(xml.as_bytes(), "SessionToken").as_deref(), Some("a/b+c=="));
        assert_eq!(first_text(xml.as_bytes(), "Expiration"), None);
        assert_eq!(first_text(b"<html><AccessKeyId", "AccessKeyId"), None);
    }

    #[test]
    fn session_name_has_only_characters_that_aws_accepts() {
        assert_eq!(session_name("ada@example.com"), "ada@example.com");
        assert_eq!(session_name("a b|c"), "a-b-c");
        assert_eq!(session_name("x"), "steward-x");
        assert_eq!(session_name(&"x".repeat(100)).len(), 64);
    }
}
