//! The reference of all causes, for administrators: `mdm-profiles/DIAGNOSES.md`. Printed by `steward doctor --causes`.

use askama::Template;
use protocol::diagnosis::Cause;

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
