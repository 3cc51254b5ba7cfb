//! The formats of `steward token --format`, with the real tools that they are for: Git, kubectl, the AWS SDK.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]
#![expect(clippy::print_stdout, reason = "a test that skips a part says so")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Form;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::device::Device;
use e2e::process::program;
use e2e::provider::{EMAIL, Provider, ProviderFault};
use protocol::session::SessionState;
use serde_json::{Value, json};

use super::external_provider::{ExternalProvider, python, script};
use super::fixture::{FILE_VAULT, device_with_provider, installed_program, sign_in_device, sign_in_policy};

/// A server that wants credentials, and records those that it gets.
async fn server_with_credentials() -> (String, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let recorded = Arc::clone(&seen);
    let handler = move |headers: HeaderMap| async move {
        let Some(authorization) = headers.get("authorization") else {
            return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"lab\"")]).into_response();
        };
        recorded.lock().unwrap().push(authorization.to_str().unwrap().to_owned());
        StatusCode::NOT_FOUND.into_response()
    };
    let address = e2e::serve(Router::new().fallback(get(handler))).await;
    (format!("http://{address}"), seen)
}

#[tokio::test]
async fn git_format_gives_git_the_access_token() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let token = fixture.token().await.unwrap();
    let (address, seen) = server_with_credentials().await;
    let helper =
        format!("!{} --root {} token --format git", program("steward").display(), fixture.device.root_text());
    let configuration = format!("credential.helper={helper}");
    let repository = format!("{address}/repository");
    // The server has no repository; what Git sends to it is what matters.
    let git = installed_program("git");
    fixture.device.output_of(git.as_ref(), &["-c", &configuration, "ls-remote", &repository]).await;
    let sent = seen.lock().unwrap().first().cloned().expect("Git had something to send");
    let basic = sent.strip_prefix("Basic ").map(|text| STANDARD.decode(text).unwrap());
    let password = basic.map(|pair| String::from_utf8(pair).unwrap().split_once(':').unwrap().1.to_owned());
    assert_eq!(password.as_deref().or(sent.strip_prefix("Bearer ")), Some(token.as_str()), "{sent}");
}

#[tokio::test]
async fn kubernetes_format_gives_kubectl_the_id_token() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let id_token = fixture.device.printed(&["token", "--id-token"]).await.trim().to_owned();
    let printed = fixture.device.printed(&["token", "--format", "kubernetes"]).await;
    let credential: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(credential["kind"], "ExecCredential");
    assert_eq!(credential["status"]["token"], id_token.as_str());
    assert!(credential["status"]["expirationTimestamp"].as_str().unwrap().ends_with('Z'), "{credential}");

    let Some(kubectl) =
        ["/usr/local/bin/kubectl", "/usr/bin/kubectl"].iter().find(|path| Path::new(path).exists())
    else {
        println!("SKIPPED: kubectl is not installed, so only the form of its credential was checked");
        return;
    };
    // Over plain HTTP, kubectl sends no token.
    let (certificate, key) = (fixture.device.path("lab.crt"), fixture.device.path("lab.key"));
    let made = tokio::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-out"])
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output();
    assert!(made.await.unwrap().status.success());
    let mut server = ExternalProvider::start(
        tokio::process::Command::new(python()).arg(script("bearer_server.py")).args([&certificate, &key]),
    )
    .await;
    let address = server.issuer.clone();
    let user = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": program("steward"),
        "args": ["--root", fixture.device.root_text(), "token", "--format", "kubernetes"] } });
    let configuration = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{ "name": "lab", "cluster": { "server": address, "certificate-authority": certificate } }],
        "users": [{ "name": "ada", "user": user }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "ada" } }],
    });
    let file = fixture.device.path("kubeconfig");
    fs_err::write(&file, configuration.to_string()).unwrap();
    let file = file.display().to_string();
    let printed = fixture
        .device
        .output_of(kubectl.as_ref(), &["--kubeconfig", &file, "get", "--raw", "/version"])
        .await;
    assert!(printed.contains("v1.32.0"), "{printed}");
    assert_eq!(server.next_line().await, format!("Bearer {id_token}"));
}

/// The part of AWS STS that matters here.
async fn sts(seen: Arc<Mutex<Vec<BTreeMap<String, String>>>>) -> String {
    let handler = move |Form(request): Form<BTreeMap<String, String>>| async move {
        let allowed = request.get("RoleArn").is_some_and(|role| role.ends_with("role/Quick"));
        seen.lock().unwrap().push(request);
        let response = |status, body: &str| -> Response {
            (status, [("content-type", "text/xml")], body.to_owned()).into_response()
        };
        if !allowed {
            return response(
                StatusCode::FORBIDDEN,
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                 <Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message>\
                 </Error></ErrorResponse>",
            );
        }
        response(
            StatusCode::OK,
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><SessionToken>session+token/==</SessionToken>\
             <SecretAccessKey>secret</SecretAccessKey><Expiration>2099-01-01T00:00:00Z</Expiration>\
             <AccessKeyId>ASIALAB</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>",
        )
    };
    format!("http://{}/", e2e::serve(Router::new().route("/", post(handler))).await)
}

#[tokio::test]
async fn aws_format_gives_role_credentials_to_botocore() {
    let seen: Arc<Mutex<Vec<BTreeMap<String, String>>>> = Arc::default();
    let sts = sts(Arc::clone(&seen)).await;
    let mut device = Device::new();
    let file = device.path("aws-config");
    device.set("AWS_CONFIG_FILE", &file.display().to_string());
    let process = format!(
        "{} --root {} token --format aws --sts-url {sts} --role-arn arn:aws:iam::123456789012:role/",
        program("steward").display(),
        device.root_text()
    );
    let profile =
        |name: &str, role: &str| format!("[profile {name}]\ncredential_process = {process}{role}\n");
    fs_err::write(&file, profile("quick", "Quick") + &profile("other", "Other")).unwrap();
    let fixture = device_with_provider(device, Provider::start().await, FILE_VAULT).await;
    fixture.login().await;
    let botocore = script("assume_role.py").display().to_string();
    let printed = fixture.device.output_of(&python(), &[&botocore, "quick"]).await;
    assert_eq!(printed.trim(), "custom-process ASIALAB session+token/== False");
    let request = seen.lock().unwrap()[0].clone();
    let id_token = fixture.device.printed(&["token", "--id-token"]).await;
    assert_eq!(request["WebIdentityToken"], id_token.trim());
    assert_eq!((&*request["Version"], &*request["RoleSessionName"]), ("2011-06-15", "ada@example.com"));
    let refused = fixture.device.output_of(&python(), &[&botocore, "other"]).await;
    assert!(refused.contains("AWS refused (403): Not authorized to perform"), "{refused}");
    // No token is sent without TLS.
    let plain = ["token", "--format", "aws", "--role-arn", "a", "--sts-url", "http://sts.example.com/"];
    let refused = fixture.device.printed(&plain).await;
    assert!(refused.contains("--sts-url must be https"), "{refused}");
}

#[tokio::test]
async fn expired_id_token_is_renewed_once_for_formats_that_need_it() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| behaviour.id_token_lifetime = 20);
    fixture.login().await;
    let access = fixture.token().await.unwrap();
    assert_eq!(fixture.provider.refreshes(), 0);
    fixture.provider.behave(|behaviour| behaviour.id_token_lifetime = 600);
    let printed = fixture.device.printed(&["token", "--format", "header", "--id-token"]).await;
    assert!(printed.starts_with("Authorization: Bearer ey"), "{printed}");
    assert_eq!(fixture.provider.refreshes(), 1);
    // The new one, from the cache. (It once was the old one.)
    let again = fixture.device.printed(&["token", "--format", "header", "--id-token"]).await;
    assert_eq!((printed, fixture.provider.refreshes()), (again, 1));
    assert_ne!(fixture.token().await.unwrap(), access);
    fixture.device.printed(&["token", "--format", "kubernetes"]).await;
    assert_eq!(fixture.provider.refreshes(), 1, "it lasts now");
}

/// Found by review: with an expired ID token, the refresh token of one provider was sent to the provider that policy named
/// since, and its `invalid_grant` deleted the session.
#[tokio::test]
async fn refresh_token_reaches_no_other_provider() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| behaviour.id_token_lifetime = 20);
    fixture.login().await;
    let access_token = fixture.token().await.unwrap();
    let other = Provider::start().await;
    let before = fixture.device.machine_status().await.policy.hash;
    for (provider, refused) in [(&other, true), (&fixture.provider, false)] {
        let policy = format!("{}{FILE_VAULT}", sign_in_policy(provider, fixture.port));
        fixture.device.push("50.toml", &policy);
        let arrived = |hash: &String| (*hash == before) != refused;
        fixture.device.machine_status_where("the policy", |status| arrived(&status.policy.hash)).await;
        if refused {
            for format in [&["token", "--id-token"][..], &["token", "--format", "kubernetes"], &["token"]] {
                let printed = fixture.device.printed(format).await;
                assert!(printed.contains("policy now names another issuer"), "{printed}");
            }
        }
    }
    assert_eq!(other.token_requests(), 0);
    assert_eq!(fixture.vault().len(), 2, "the saved session is still there");
    assert_eq!(fixture.token().await.unwrap(), access_token);
}

/// Found by review: a session with an expired ID token, a valid access token and no refresh token was deleted, because
/// the format demanded a renewal.
#[tokio::test]
async fn expired_id_token_without_refresh_token_keeps_session() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| {
        behaviour.id_token_lifetime = 20;
        behaviour.fault = Some(ProviderFault::NoRefreshToken);
    });
    fixture.login().await;
    let access_token = fixture.token().await.unwrap();
    let output = fixture.device.steward(&["token", "--format", "kubernetes"]).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{errors}");
    assert!(errors.contains("no refresh token") && errors.contains("hint: "), "{errors}");
    let printed = fixture.device.printed(&["whoami"]).await;
    assert!(printed.starts_with(EMAIL), "{printed}");
    assert_eq!(fixture.session().await.state, SessionState::SignedIn);
    assert_eq!(fixture.token().await.unwrap(), access_token);
    assert_eq!(fixture.vault().len(), 2, "the saved session is still there");
}
