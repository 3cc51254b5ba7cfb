//! The broker's local API as an OpenAPI 3.1 document. The schemas come from the types that the routes use.

use axum::Json;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::api::{LoginAnswer, LoginQuestion, LogoutAnswer, LogoutQuestion, ReturnQuestion, TokenQuestion};
use super::callers::Asked;
use super::session::Grant;
use crate::health::model::SignIn;

/// `GET /v1/openapi.json`.
pub(super) async fn document() -> Json<Value> {
    Json(build())
}

/// The document, for the API and for the reference.
pub(crate) fn build() -> Value {
    let mut schemas = Schemas::new();
    let paths = json!({
        "/v1/token": { "post": schemas.operation::<TokenQuestion, Grant>(
            "token", "A token; the session is renewed as needed. Only for programs that policy allows.") },
        "/v1/login": { "post": schemas.operation::<LoginQuestion, LoginAnswer>(
            "login", "Begins a sign-in, or joins the one that is going on.") },
        "/v1/login/return": { "post": schemas.operation::<ReturnQuestion, LoginAnswer>(
            "loginReturn", "Brings the address that a sign-in with the method `paste` ended at.") },
        "/v1/logout": { "post": schemas.operation::<LogoutQuestion, LogoutAnswer>(
            "logout", "Ends sessions on this device and at the identity provider.") },
        "/v1/session": { "get": schemas.look::<SignIn>("session", "How the session is doing; no tokens.") },
        "/v1/callers": { "get": schemas.look::<Vec<Asked>>("callers", "Which programs asked for what.") },
        "/v1/openapi.json": { "get": {
            "operationId": "openapi", "summary": "This document.",
            "responses": { "200": { "description": "OpenAPI 3.1.", "content": { "application/json": {
                "schema": { "type": "object" } } } } } } },
    });
    let problem = schemas.of::<policy_schema::Problem>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Steward broker",
            "version": "1",
            "description": "HTTP/1.1 over a Unix socket ($XDG_RUNTIME_DIR/steward/broker.sock) or a named pipe \
                (\\\\.\\pipe\\steward-broker-SID). The header `Host` must be `localhost`. There is no authentication \
                in the protocol: the operating system says which program is calling.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://localhost" }],
        "paths": paths,
        "components": {
            "schemas": schemas.generator.take_definitions(true),
            "responses": { "Refusal": {
                "description": "No success: what is wrong and what to do. 400: not understood; 401: a person must sign \
                    in; 403: this program may not ask; 409: something else is in the way; 502: the identity provider \
                    cannot be reached.",
                "content": { "application/json": { "schema": {
                    "type": "object", "required": ["error"], "properties": { "error": problem } } } } } },
        },
    })
}

struct Schemas {
    generator: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        "/components/schemas".clone_into(settings.definitions_path.to_mut());
        Self { generator: settings.into_generator() }
    }

    fn of<T: JsonSchema>(&mut self) -> Value {
        self.generator.subschema_for::<T>().to_value()
    }

    fn operation<Q: JsonSchema, A: JsonSchema>(&mut self, name: &str, summary: &str) -> Value {
        let mut operation = self.look::<A>(name, summary);
        let schema = self.of::<Q>();
        operation["requestBody"] =
            json!({ "required": false, "content": { "application/json": { "schema": schema } } });
        operation
    }

    fn look<A: JsonSchema>(&mut self, name: &str, summary: &str) -> Value {
        json!({
            "operationId": name,
            "summary": summary,
            "responses": {
                "200": { "description": "The answer.", "content": { "application/json": { "schema": self.of::<A>() } } },
                "default": { "$ref": "#/components/responses/Refusal" },
            },
        })
    }
}
