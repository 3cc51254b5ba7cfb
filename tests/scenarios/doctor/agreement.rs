//! The doctor and the broker read the same documents in the same way.

use serde_json::{Value, json};

use super::super::fixture::{FILE_VAULT, SignInDevice, sign_in_device};
use super::run_doctor;

/// What a sign-in cannot do without.
const NEEDED: [&str; 4] = ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"];
/// What it can do without.
const OPTIONAL: [&str; 6] = [
    "userinfo_endpoint",
    "revocation_endpoint",
    "scopes_supported",
    "code_challenge_methods_supported",
    "id_token_signing_alg_values_supported",
    "some_new_member",
];

/// Whatever a document holds instead of what belongs there: with what the broker refuses the doctor is not content, and
/// with what the broker accepts it finds no failure.
#[tokio::test]
async fn doctor_passes_no_document_that_sign_in_refuses() {
    let fixture = sign_in_device(FILE_VAULT).await;
    assert!(compare(&fixture, "the documents as they are").await, "the lab works");
    let values = [
        None,
        Some(Value::Null),
        Some(json!("")),
        Some(json!(7)),
        Some(json!({ "a": "b" })),
        Some(json!("no address")),
        Some(json!("http://192.0.2.1/clear-text")),
        Some(json!("ftp://127.0.0.1/other")),
    ];
    let mut refused = 0;
    for name in NEEDED.into_iter().chain(OPTIONAL) {
        for value in &values {
            fixture.provider.behave(|behaviour| behaviour.discovery_member = Some((name, value.clone())));
            let works = compare(&fixture, &format!("{name} = {value:?}")).await;
            refused += usize::from(!works);
            assert!(!works || !NEEDED.contains(&name), "signed in with {name} = {value:?}");
        }
    }
    fixture.provider.behave(|behaviour| behaviour.discovery_member = None);
    for keys in
        [json!({}), json!([]), json!({ "keys": [] }), json!({ "keys": 7 }), json!({ "keys": [{}, 7] })]
    {
        fixture.provider.behave(|behaviour| behaviour.keys = Some(keys.clone()));
        assert!(!compare(&fixture, &format!("keys {keys}")).await, "signed in with {keys}");
    }
    assert!(refused >= NEEDED.len() * values.len());
}

/// Whether a sign-in works. The doctor must agree.
async fn compare(fixture: &SignInDevice, what: &str) -> bool {
    let found = run_doctor(&fixture.device, &[]).await;
    let login = fixture.device.steward(&["login"]).await;
    let works = login.status.success();
    let fails =
        found.findings.iter().any(|finding| ["failure", "unavailable"].contains(&finding.outcome.as_str()));
    let said = String::from_utf8_lossy(&login.stderr);
    assert_eq!(fails, !works, "{what}: the broker says: {said}\n{:#?}", found.findings);
    works
}
