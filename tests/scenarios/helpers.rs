//! Tokens for other programs: the README's examples, and the real tools that `steward token --format` is for.
#![expect(clippy::unwrap_used, reason = "everything here is a test, or what it is made of")]
#![expect(clippy::print_stdout, reason = "a test that leaves something out says so")]

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
use e2e::device::{Device, program};
use e2e::provider::Provider;
use serde_json::{Value, json};

use super::browser::OtherProvider;
use super::office::{CURL, FILE_VAULT, Office, office, office_at};
use super::providers::{python, script};

const README: &str = include_str!("../../README.md");

/// The first block of code of a language in the README that asks for a token.
fn example(language: &str) -> &'static str {
    README
        .split(&format!("```{language}\n"))
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next())
        .find(|code| code.contains("/v1/token"))
        .unwrap_or_else(|| panic!("the README has no example in {language}"))
}

/// An office whose programs find the broker where a person's session has it.
async fn office_in_session(more: &str) -> Office {
    let mut device = Device::new();
    let runtime = device.path(&format!("run/user/{}", nix::unistd::geteuid())).display().to_string();
    device.set("XDG_RUNTIME_DIR", &runtime);
    office_at(device, Provider::start().await, &format!("{FILE_VAULT}{more}")).await
}

async fn said(office: &Office, program: &Path, arguments: &[&str]) -> String {
    let output = office.device.run(program, arguments).await;
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
}

/// The program that a name leads to: what runs, and so what policy has to name.
fn found(name: &str) -> String {
    let path = ["/usr/local/bin", "/usr/bin"].iter().map(|folder| Path::new(folder).join(name));
    let path =
        path.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{name} is not installed"));
    fs_err::canonicalize(path).unwrap().display().to_string()
}

#[tokio::test]
async fn the_examples_of_the_readme_get_tokens() {
    let office = office_in_session("").await;
    let lines = |language| example(language).lines().count();
    for language in ["sh", "js", "python", "rust"] {
        assert!(lines(language) <= 17, "{language}: {}", lines(language));
    }
    let (node, python) = (found("node"), found("python3"));
    let compiled = office.device.path("example");
    let source = office.device.path("example.rs");
    fs_err::write(&source, example("rust")).unwrap();
    let rustc = tokio::process::Command::new("rustc")
        .args(["--edition", "2024", "-o"])
        .args([&compiled, &source])
        .status();
    assert!(rustc.await.unwrap().success());
    let compiled_text = compiled.display().to_string();
    let runs: [(&str, &str, &[&str]); 4] = [
        ("sh", "/bin/sh", &["-c", example("sh")]),
        ("js", &node, &["-e", example("js")]),
        ("python", &python, &["-c", example("python")]),
        ("rust", &compiled_text, &[]),
    ];
    for (language, program, arguments) in runs {
        let refused = said(&office, program.as_ref(), arguments).await;
        assert!(refused.contains("may not have tokens"), "{language}: {refused}");
    }
    office.allow(&[CURL, &node, &python, &compiled_text]).await;
    // The first one signs in: the browser opens.
    for (language, program, arguments) in runs {
        let answer = said(&office, program.as_ref(), arguments).await;
        let token = office.token().await.unwrap();
        assert!(answer.contains(&token), "{language}: {answer}");
    }
    assert_eq!(office.provider.logins(), 1);
}

#[tokio::test]
async fn the_document_of_the_api_is_openapi_and_names_what_is_there() {
    let office = office(FILE_VAULT).await;
    let document = office.device.steward(&["broker", "openapi"]).await.stdout;
    let file = office.device.path("openapi.json");
    fs_err::write(&file, &document).unwrap();
    let checker = script("openapi.py").display().to_string();
    let complaints = said(&office, &python(), &[&checker, &file.display().to_string()]).await;
    assert_eq!(complaints, "");
    let document: Value = serde_json::from_slice(&document).unwrap();
    office.allow(&[CURL]).await;
    // Every route answers, with what the document promises.
    for (route, methods) in document["paths"].as_object().unwrap() {
        office.device.printed(&["login"]).await;
        let answer = if methods["get"].is_object() {
            let address = format!("http://localhost{route}");
            let arguments = ["-sS", "--unix-socket", &office.socket(), &address];
            serde_json::from_slice(&office.device.run(CURL.as_ref(), &arguments).await.stdout).unwrap()
        } else {
            office.post(route, &json!({})).await
        };
        let operation = methods.get("get").or_else(|| methods.get("post")).unwrap();
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        let promised = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next());
        let required = promised.map(|name| document["components"]["schemas"][name]["required"].clone());
        // Only the return of a paste that nobody waits for is refused here.
        if route == "/v1/login/return" {
            assert_eq!(answer["error"]["code"], "api.refused", "{route}: {answer}");
            continue;
        }
        for field in required.iter().filter_map(Value::as_array).flatten() {
            assert!(
                !answer[field.as_str().unwrap()].is_null() || field == "account",
                "{route}: no {field}: {answer}"
            );
        }
    }
}

/// A server that wants a bearer token, and remembers what it got.
async fn guarded() -> (String, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let remembered = Arc::clone(&seen);
    let handler = move |headers: HeaderMap| async move {
        let Some(authorization) = headers.get("authorization") else {
            return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"lab\"")]).into_response();
        };
        remembered.lock().unwrap().push(authorization.to_str().unwrap().to_owned());
        StatusCode::NOT_FOUND.into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(get(handler))).await });
    (address, seen)
}

#[tokio::test]
async fn git_gets_its_credential() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let token = office.token().await.unwrap();
    let (address, seen) = guarded().await;
    let helper =
        format!("!{} --root {} token --format git", program("steward").display(), office.device.root_text());
    let configuration = format!("credential.helper={helper}");
    let repository = format!("{address}/repository");
    // What the server answers is no repository; what Git sent before is what matters.
    let git = found("git");
    said(&office, git.as_ref(), &["-c", &configuration, "ls-remote", &repository]).await;
    let sent = seen.lock().unwrap().first().cloned().expect("Git had something to send");
    let basic = sent.strip_prefix("Basic ").map(|text| STANDARD.decode(text).unwrap());
    let password = basic.map(|pair| String::from_utf8(pair).unwrap().split_once(':').unwrap().1.to_owned());
    assert_eq!(password.as_deref().or(sent.strip_prefix("Bearer ")), Some(token.as_str()), "{sent}");
}

#[tokio::test]
async fn kubectl_gets_its_credential() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let identity = office.device.printed(&["token", "--id-token"]).await.trim().to_owned();
    let printed = office.device.printed(&["token", "--format", "kubernetes"]).await;
    let credential: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(credential["kind"], "ExecCredential");
    assert_eq!(credential["status"]["token"], identity.as_str());
    assert!(credential["status"]["expirationTimestamp"].as_str().unwrap().ends_with('Z'), "{credential}");

    let Some(kubectl) =
        ["/usr/local/bin/kubectl", "/usr/bin/kubectl"].iter().find(|path| Path::new(path).exists())
    else {
        println!("SKIPPED: kubectl is not installed, so only the form of its credential was checked");
        return;
    };
    // Over plain HTTP, kubectl sends no token.
    let (certificate, key) = (office.device.path("lab.crt"), office.device.path("lab.key"));
    let made = tokio::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-out"])
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output();
    assert!(made.await.unwrap().status.success());
    let mut server = OtherProvider::run(
        tokio::process::Command::new(python()).arg(script("guarded.py")).args([&certificate, &key]),
    )
    .await;
    let address = server.issuer.clone();
    let user = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": program("steward"),
        "args": ["--root", office.device.root_text(), "token", "--format", "kubernetes"] } });
    let configuration = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{ "name": "lab", "cluster": { "server": address, "certificate-authority": certificate } }],
        "users": [{ "name": "ada", "user": user }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "ada" } }],
    });
    let file = office.device.path("kubeconfig");
    fs_err::write(&file, configuration.to_string()).unwrap();
    let file = file.display().to_string();
    let answer = said(&office, kubectl.as_ref(), &["--kubeconfig", &file, "get", "--raw", "/version"]).await;
    assert!(answer.contains("v1.32.0"), "{answer}");
    assert_eq!(server.line().await, format!("Bearer {identity}"));
}

/// The part of AWS STS that matters here.
async fn sts(seen: Arc<Mutex<Vec<BTreeMap<String, String>>>>) -> String {
    let handler = move |Form(question): Form<BTreeMap<String, String>>| async move {
        let allowed = question.get("RoleArn").is_some_and(|role| role.ends_with("role/Quick"));
        seen.lock().unwrap().push(question);
        let answer = |status, body: &str| -> Response {
            (status, [("content-type", "text/xml")], body.to_owned()).into_response()
        };
        if !allowed {
            return answer(
                StatusCode::FORBIDDEN,
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                 <Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message>\
                 </Error></ErrorResponse>",
            );
        }
        answer(
            StatusCode::OK,
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><SessionToken>session+token/==</SessionToken>\
             <SecretAccessKey>secret</SecretAccessKey><Expiration>2099-01-01T00:00:00Z</Expiration>\
             <AccessKeyId>ASIALAB</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>",
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(handler))).await });
    address
}

#[tokio::test]
async fn aws_tools_get_credentials_of_a_role() {
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
    let office = office_at(device, Provider::start().await, FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let botocore = script("assume_role.py").display().to_string();
    let answer = said(&office, &python(), &[&botocore, "quick"]).await;
    assert_eq!(answer, "custom-process ASIALAB session+token/== False");
    let question = seen.lock().unwrap()[0].clone();
    let identity = office.device.printed(&["token", "--id-token"]).await;
    assert_eq!(question["WebIdentityToken"], identity.trim());
    assert_eq!((&*question["Version"], &*question["RoleSessionName"]), ("2011-06-15", "ada@example.com"));
    let refused = said(&office, &python(), &[&botocore, "other"]).await;
    assert!(refused.contains("AWS refused (403): Not authorized to perform"), "{refused}");
    // A token does not leave the device unprotected.
    let plain = ["token", "--format", "aws", "--role-arn", "a", "--sts-url", "http://sts.example.com/"];
    let refused = office.device.printed(&plain).await;
    assert!(refused.contains("--sts-url must be https"), "{refused}");
}

#[tokio::test]
async fn an_id_token_that_has_ended_is_renewed_for_whoever_needs_it() {
    let office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| behaviour.identity_lifetime = 20);
    office.device.printed(&["login"]).await;
    let access = office.token().await.unwrap();
    assert_eq!(office.provider.refreshes(), 0);
    office.provider.behave(|behaviour| behaviour.identity_lifetime = 600);
    let printed = office.device.printed(&["token", "--format", "header", "--id-token"]).await;
    assert!(printed.starts_with("Authorization: Bearer ey"), "{printed}");
    assert_eq!(office.provider.refreshes(), 1);
    // The new one. (It was the old one, once more.)
    let again = office.device.printed(&["token", "--format", "header", "--id-token"]).await;
    assert_eq!((printed, office.provider.refreshes()), (again, 1));
    assert_ne!(office.token().await.unwrap(), access);
    office.device.printed(&["token", "--format", "kubernetes"]).await;
    assert_eq!(office.provider.refreshes(), 1, "it lasts now");
}
