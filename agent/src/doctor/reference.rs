//! The reference of all causes, for administrators: `mdm-profiles/DIAGNOSES.md`. Printed by `steward doctor --causes`.

use askama::Template;
use protocol::diagnosis::Cause;
use serde_json::{Value, json};

#[derive(Template)]
#[template(path = "causes.md", escape = "none")]
struct Reference {
    causes: &'static [Cause],
}

/// Every cause with all its fixes, as Markdown.
///
/// # Errors
/// The template cannot be rendered.
pub(crate) fn reference() -> Result<String, askama::Error> {
    Reference { causes: Cause::ALL }.render()
}

/// The same as data. Fixes and links are by identity provider; `any` is for all others.
pub(crate) fn document() -> Vec<Value> {
    let by_provider = |texts: &'static [(&'static str, &'static str)]| {
        texts
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Value::from(*text)))
            .collect::<serde_json::Map<_, _>>()
    };
    let one = |cause: &Cause| {
        json!({
            "id": cause.as_str(),
            "symptom": cause.symptom(),
            "cause": cause.origin(),
            "fixes": by_provider(cause.fixes()),
            "links": by_provider(cause.links()),
            "codes": cause.codes(),
        })
    };
    Cause::ALL.iter().map(one).collect()
}
