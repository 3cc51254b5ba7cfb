//! The broker's local API as an OpenAPI 3.1 document, from the endpoints ([`crate::broker`]) and their types. The
//! broker serves it, and `steward broker openapi` prints it.

use policy_schema::Problem;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::app::{APP_CLOSE, APP_RESUME, APP_TELL};
use crate::broker::{CALLERS, LOGIN, LOGIN_CANCEL, LOGIN_RETURN, LOGOUT, OPENAPI, SESSION, TOKEN};
use crate::endpoint::{Endpoint, Method};

/// The OpenAPI document.
#[must_use]
pub fn document() -> Value {
    let mut paths = Paths::new();
    paths.add(&TOKEN);
    paths.add(&LOGIN);
    paths.add(&LOGIN_RETURN);
    paths.add(&LOGIN_CANCEL);
    paths.add(&LOGOUT);
    paths.add(&SESSION);
    paths.add(&CALLERS);
    paths.add(&APP_TELL);
    paths.add(&APP_CLOSE);
    paths.add(&APP_RESUME);
    paths.add(&OPENAPI);
    let problem = paths.schema_of::<Problem>();
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
        "paths": paths.paths,
        "components": {
            "schemas": paths.generator.take_definitions(true),
            "responses": { "Refusal": {
                "description": "A refusal: what is wrong and what to do. 400: the request is not valid; 401: a user must \
                    sign in; 403: policy or the identity provider does not allow it to this program, user or \
                    account; 404: there is no such account; 409: the state of the device does not allow it: another \
                    program uses the port, no browser opened, another sign-in took over; 502: the identity provider does not \
                    respond, or not as expected; 503: sign-in is not configured, or the secret store cannot be used; \
                    504: the user did not finish in time.",
                "content": { "application/json": { "schema": {
                    "type": "object", "required": ["error"], "properties": { "error": problem } } } } } },
        },
    })
}

struct Paths {
    generator: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Paths {
    fn new() -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        "/components/schemas".clone_into(settings.definitions_path.to_mut());
        Self { generator: settings.into_generator(), paths: Map::new() }
    }

    fn schema_of<T: JsonSchema>(&mut self) -> Value {
        self.generator.subschema_for::<T>().to_value()
    }

    fn add<Request: JsonSchema, Response: JsonSchema>(&mut self, endpoint: &Endpoint<Request, Response>) {
        let response = self.schema_of::<Response>();
        let mut operation = json!({
            "operationId": endpoint.operation,
            "summary": endpoint.summary,
            "responses": {
                "200": { "description": "The response.", "content": { "application/json": { "schema": response } } },
                "default": { "$ref": "#/components/responses/Refusal" },
            },
        });
        if endpoint.method == Method::Post {
            let request = self.schema_of::<Request>();
            operation["requestBody"] =
                json!({ "required": false, "content": { "application/json": { "schema": request } } });
        }
        let method = endpoint.method.as_str().to_ascii_lowercase();
        self.paths.insert(endpoint.path.to_owned(), json!({ method: operation }));
    }
}
