//! `steward token`: a token in the form that its reader wants.

use std::fmt::Write as _;
use std::io::Read as _;

use agent_platform::environment;
use agent_platform::paths::Paths;
use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use quick_xml::events::Event;
use serde_json::json;
use url::Url;

use super::sign_in::ask;
use crate::broker::configuration::Configuration;
use crate::broker::session::Grant;
use crate::clock;
use crate::http::Http;

/// What Git may say to a credential helper is shorter than this, in bytes.
const MAXIMUM_ATTRIBUTES: u64 = 64 * 1024;
/// What AWS answers is shorter than this, in bytes.
const MAXIMUM_ANSWER: usize = 64 * 1024;
/// Where AWS gives credentials, unless told otherwise (AWS General Reference, "AWS STS endpoints").
const STS: &str = "https://sts.amazonaws.com/";

#[derive(Args)]
pub(super) struct Arguments {
    /// For whom the token is meant.
    #[arg(long, value_enum, default_value = "raw")]
    format: Format,
    /// The ID token instead of the access token.
    #[arg(long)]
    id_token: bool,
    /// Short for `--format json`.
    #[arg(long, conflicts_with_all = ["id_token", "format"])]
    json: bool,
    /// Open the browser if nobody is signed in.
    #[arg(long)]
    interactive: bool,
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
    /// Where AWS gives credentials; a region or a network of your own may have an address of its own.
    #[arg(long, value_name = "URL", default_value = STS)]
    sts_url: Url,
    /// How long the role may be used, in seconds; by default what AWS chooses.
    #[arg(long, value_name = "SECONDS")]
    duration_seconds: Option<u32>,
    /// What Git wants of a credential helper: `get`, `store` or `erase`.
    #[arg(hide = true)]
    action: Option<String>,
}

/// For whom a token is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The token alone.
    Raw,
    /// Both tokens with their facts.
    Json,
    /// A header for HTTP: `steward token --format header | curl -H @- ...`.
    Header,
    /// kubectl and its kind (`ExecCredential`), with the ID token.
    Kubernetes,
    /// AWS tools (`credential_process`): credentials of a role for the ID token.
    Aws,
    /// Git (a credential helper).
    Git,
}

pub(super) async fn token(paths: &Paths, arguments: Arguments) -> anyhow::Result<()> {
    let format = if arguments.json { Format::Json } else { arguments.format };
    if let Some(word) = arguments.action.as_ref().filter(|_| format != Format::Git) {
        bail!("unexpected `{word}`; an account is named with `--account {word}`");
    }
    if format == Format::Git && arguments.action.as_deref().is_some_and(|action| action != "get") {
        // The broker keeps and forgets by itself.
        return Ok(());
    }
    let git = match format {
        Format::Git => Some(Attributes::read()?),
        Format::Raw | Format::Json | Format::Header | Format::Kubernetes | Format::Aws => None,
    };
    if git.as_ref().is_some_and(|attributes| !attributes.is_safe()) {
        bail!("Git asks for a token over a connection that anybody can read; use https");
    }
    let identity = arguments.id_token || matches!(format, Format::Kubernetes | Format::Aws);
    let question = json!({
        "interactive": arguments.interactive,
        "account": arguments.account,
        "scope": arguments.scope,
        "resource": arguments.resource,
        "id_token": identity,
    });
    let grant: Grant = ask(paths, "/v1/token", Some(question)).await?;
    let token = if identity { &grant.id_token } else { &grant.access_token };
    match format {
        Format::Raw => out!("{token}"),
        Format::Json => out!("{}", serde_json::to_string_pretty(&grant)?),
        Format::Header => out!("Authorization: Bearer {token}"),
        Format::Kubernetes => out!("{}", exec_credential(&grant, clock::now())),
        Format::Aws => {
            let role = arguments.role_arn.context("--role-arn is missing")?;
            let question = RoleQuestion { role: &role, seconds: arguments.duration_seconds };
            out!("{}", assume_role(paths, arguments.sts_url, question, &grant).await?);
        }
        Format::Git => {
            let expires = clock::now() + SignedDuration::from_secs(grant.expires_in);
            out!("{}", git.unwrap_or_default().answer(token, expires).trim_end());
        }
    }
    Ok(())
}

/// kubernetes.io, "Client Authentication (v1)": in the version that the caller speaks.
fn exec_credential(grant: &Grant, now: Timestamp) -> serde_json::Value {
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

struct RoleQuestion<'a> {
    role: &'a str,
    seconds: Option<u32>,
}

/// AWS STS, `AssumeRoleWithWebIdentity`; the answer as `credential_process` wants it (AWS SDKs and Tools Reference,
/// "Process credential provider").
async fn assume_role(
    paths: &Paths,
    sts: Url,
    question: RoleQuestion<'_>,
    grant: &Grant,
) -> anyhow::Result<serde_json::Value> {
    ensure!(sts.scheme() == "https" || is_loopback(&sts), "--sts-url must be https");
    let configuration = Configuration::load(paths).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let http = Http::new(&configuration.network)?;
    let name = session_name(&grant.account);
    let seconds = question.seconds.map(|seconds| seconds.to_string());
    let form = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", question.role),
        ("RoleSessionName", &name),
        ("WebIdentityToken", &grant.id_token),
    ];
    let form = form.into_iter().chain(seconds.as_deref().map(|seconds| ("DurationSeconds", seconds)));
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let (status, answer) = http.post_form(&sts, form, MAXIMUM_ANSWER).await?;
    let part = |name: &str| {
        first_text(&answer, name).with_context(|| format!("AWS answered {status} without `{name}`"))
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

/// The text of the first element of a name.
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

/// The letters that AWS takes in the name of a session: at least 2, at most 64.
fn session_name(account: &str) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "_+=,.@-".contains(letter);
    let name: String =
        account.chars().map(|letter| if fits(letter) { letter } else { '-' }).take(64).collect();
    if name.len() < 2 { format!("steward-{name}") } else { name }
}

/// What Git says to a credential helper (gitcredentials(7), git-credential(1)).
#[derive(Default)]
struct Attributes {
    protocol: String,
    host: String,
    username: Option<String>,
    /// Git can send a token as it is, since 2.46.
    takes_tokens: bool,
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
                "capability[]" if value == "authtype" => attributes.takes_tokens = true,
                _ => {}
            }
        }
        attributes
    }

    fn is_safe(&self) -> bool {
        let url = Url::parse(&format!("{}://{}/", self.protocol, self.host));
        self.protocol == "https" || url.is_ok_and(|url| url.scheme() == "http" && is_loopback(&url))
    }

    fn answer(&self, token: &str, expires: Timestamp) -> String {
        let mut answer = String::new();
        if self.takes_tokens {
            answer.push_str("capability[]=authtype\nauthtype=Bearer\nephemeral=1\n");
            // A text can always be written to.
            let _ = writeln!(answer, "credential={token}");
        } else {
            let username = self.username.as_deref().unwrap_or("oauth2");
            let _ = writeln!(answer, "username={username}\npassword={token}");
        }
        let _ = writeln!(answer, "password_expiry_utc={}", expires.as_second());
        answer
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_gets_what_its_version_understands_and_nothing_over_plain_http() {
        let at = Timestamp::from_second(1000).unwrap();
        let old = Attributes::parse("protocol=https\nhost=git.example.com\nusername=ada\n\n");
        assert!(old.is_safe());
        assert_eq!(old.answer("t", at), "username=ada\npassword=t\npassword_expiry_utc=1000\n");
        let new = Attributes::parse("capability[]=authtype\nprotocol=http\nhost=127.0.0.1:8080\n");
        assert!(new.is_safe());
        assert!(new.answer("t", at).contains("authtype=Bearer\nephemeral=1\ncredential=t\n"));
        for unsafe_one in ["protocol=http\nhost=git.example.com\n", "protocol=ssh\nhost=localhost\n", ""] {
            assert!(!Attributes::parse(unsafe_one).is_safe(), "{unsafe_one:?}");
        }
    }

    #[test]
    fn the_answer_of_aws_is_read_and_nothing_else_is_made_of_it() {
        let xml = "<?xml version=\"1.0\"?><R xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Credentials>\
                   <AccessKeyId>AK</AccessKeyId><SessionToken>a/b+c==</SessionToken><Empty/></Credentials></R>";
        assert_eq!(first_text(xml.as_bytes(), "AccessKeyId").as_deref(), Some("AK"));
        assert_eq!(first_text(xml.as_bytes(), "SessionToken").as_deref(), Some("a/b+c=="));
        assert_eq!(first_text(xml.as_bytes(), "Expiration"), None);
        assert_eq!(first_text(b"<html><AccessKeyId", "AccessKeyId"), None);
    }

    #[test]
    fn the_name_of_a_session_is_one_that_aws_takes() {
        assert_eq!(session_name("ada@example.com"), "ada@example.com");
        assert_eq!(session_name("a b|c"), "a-b-c");
        assert_eq!(session_name("x"), "steward-x");
        assert_eq!(session_name(&"x".repeat(100)).len(), 64);
    }
}
