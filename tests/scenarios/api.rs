//! The local API as programs of others use it: the examples of the README, the OpenAPI document, and responses that this
//! version does not understand. They see raw HTTP and JSON on purpose: that is the published form.

use axum::routing::get;
use axum::{Json, Router};
use e2e::device::Device;
use e2e::provider::Provider;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::external_provider::{python, script};
use super::fixture::{
    CURL, FILE_VAULT, SignInDevice, device_with_provider, installed_program, sign_in_device,
};

/// The most lines of an example.
const LONGEST_EXAMPLE: usize = 17;

const README: &str = include_str!("../../agent/README.md");

/// The first block of code in a language that requests a token.
fn example(language: &str) -> &'static str {
    README
        .split(&format!("```{language}\n"))
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next())
        .find(|code| code.contains("/v1/token"))
        .unwrap_or_else(|| panic!("the README has no example in {language}"))
}

/// A device whose programs find the broker where it is in a user's session.
async fn device_in_session() -> SignInDevice {
    let mut device = Device::new();
    let runtime = device.path(&format!("run/user/{}", nix::unistd::geteuid())).display().to_string();
    device.set("XDG_RUNTIME_DIR", &runtime);
    device_with_provider(device, Provider::start().await, FILE_VAULT).await
}

#[tokio::test]
async fn examples_of_the_readme_get_tokens() {
    let fixture = device_in_session().await;
    for language in ["sh", "js", "python", "rust"] {
        assert!(example(language).lines().count() <= LONGEST_EXAMPLE, "{language}");
    }
    let (node, python) = (installed_program("node"), installed_program("python3"));
    let compiled = fixture.device.path("example");
    let source = fixture.device.path("example.rs");
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
        let refused = fixture.device.output_of(program.as_ref(), arguments).await;
        assert!(refused.contains("may not have tokens"), "{language}: {refused}");
    }
    fixture.allow(&[CURL, &node, &python, &compiled_text]).await;
    // The first one signs in: the browser opens.
    for (language, program, arguments) in runs {
        let printed = fixture.device.output_of(program.as_ref(), arguments).await;
        let token = fixture.token().await.unwrap();
        assert!(printed.contains(&token), "{language}: {printed}");
    }
    assert_eq!(fixture.provider.logins(), 1);
}

/// Calls the broker with curl, and gives the body of the response.
async fn curl(fixture: &SignInDevice, route: &str, request: Option<&Value>) -> Value {
    let (socket, address) = (fixture.socket(), format!("http://localhost{route}"));
    let body = request.map(ToString::to_string);
    let mut arguments = vec!["-sS", "--unix-socket", &socket, &address];
    if let Some(body) = &body {
        arguments.extend(["-H", "content-type: application/json", "-d", body]);
    }
    let output = fixture.device.run(CURL.as_ref(), &arguments).await;
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test]
async fn openapi_document_is_valid_and_every_endpoint_keeps_it() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let document = fixture.device.steward(&["broker", "openapi"]).await.stdout;
    let file = fixture.device.path("openapi.json");
    fs_err::write(&file, &document).unwrap();
    let checker = script("openapi.py").display().to_string();
    let errors = fixture.device.output_of(&python(), &[&checker, &file.display().to_string()]).await;
    assert_eq!(errors, "");
    let document: Value = serde_json::from_slice(&document).unwrap();
    fixture.allow(&[CURL]).await;
    // Every endpoint responds with what the document promises.
    for (route, methods) in document["paths"].as_object().unwrap() {
        fixture.login().await;
        let request = (!methods["get"].is_object()).then(|| json!({}));
        let response = curl(&fixture, route, request.as_ref()).await;
        // A redirect response that no sign-in waits for is the only request that is refused here.
        if route == "/v1/login/return" {
            assert_eq!(response["error"]["code"], "api.refused", "{route}: {response}");
            continue;
        }
        let operation = methods.get("get").or_else(|| methods.get("post")).unwrap();
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        let promised = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next());
        let required = promised.map(|name| document["components"]["schemas"][name]["required"].clone());
        for field in required.iter().filter_map(Value::as_array).flatten() {
            assert!(
                !response[field.as_str().unwrap()].is_null() || field == "account",
                "{route}: no {field}: {response}"
            );
        }
    }
}

/// Found by review: a whole response of another version was reported as one that had broken off.
#[tokio::test]
async fn response_that_does_not_fit_is_not_reported_as_broken_off() {
    let device = Device::new();
    let socket = device.agent_socket();
    fs_err::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let routes = Router::new().route("/v1/status", get(async || Json(json!({ "x": 1 }))));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let output = device.steward(&["status"]).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("does not understand the response from"), "{errors}");
    assert!(errors.contains("missing field") && !errors.contains("broke off"), "{errors}");
}
