//! An endpoint of a local API, declared once. The server registers its handler, the client calls it, the OpenAPI
//! document describes it, and tests use it.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An endpoint with the types of its request and its response, both JSON.
#[derive(Debug)]
pub struct Endpoint<Request, Response> {
    /// The HTTP method.
    pub method: Method,
    /// The absolute path, without a query.
    pub path: &'static str,
    /// Its name in the OpenAPI document.
    pub operation: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    types: PhantomData<fn(Request) -> Response>,
}

/// The HTTP methods that the local APIs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads. The response comes from memory.
    Get,
    /// Acts, and may wait for a user or a server.
    Post,
}

impl Method {
    /// The method as HTTP writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

impl<Response> Endpoint<Nothing, Response> {
    /// An endpoint that reads.
    #[must_use]
    pub const fn get(path: &'static str, operation: &'static str, summary: &'static str) -> Self {
        Self { method: Method::Get, path, operation, summary, types: PhantomData }
    }
}

impl<Request, Response> Endpoint<Request, Response> {
    /// An endpoint that acts.
    #[must_use]
    pub const fn post(path: &'static str, operation: &'static str, summary: &'static str) -> Self {
        Self { method: Method::Post, path, operation, summary, types: PhantomData }
    }
}

/// An empty request or response: no body, or an empty object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}
