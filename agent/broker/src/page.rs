//! The pages that a user sees in the browser: what has happened, or a question with two buttons.

use askama::Template;
use net::loopback::Response;

/// A page.
#[derive(Clone, Debug, Template)]
#[template(path = "page.html")]
pub(crate) struct Page {
    pub(crate) organization: Option<String>,
    pub(crate) heading: String,
    pub(crate) text: String,
    pub(crate) choice: Option<Choice>,
    pub(crate) support: Option<String>,
}

/// The addresses that the two buttons of a question send to.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) allow: String,
    pub(crate) decline: String,
}

impl Page {
    /// For an address that means nothing, or nothing any more.
    pub(crate) fn over(text: &str) -> Response {
        let heading = "Nothing to do here".to_owned();
        let page = Self { organization: None, heading, text: text.to_owned(), choice: None, support: None };
        page.response(410)
    }

    /// The page as a response.
    pub(crate) fn response(&self, status: u16) -> Response {
        let form_action = if self.choice.is_some() { "'self'" } else { "'none'" };
        let policy = format!(
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
        );
        let headers = [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("content-security-policy", &policy),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
        ];
        let headers = headers.map(|(name, value)| (name, value.to_owned())).into();
        match self.render() {
            Ok(body) => Response { status, headers, body },
            Err(error) => Response { status: 500, headers: Vec::new(), body: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_escapes_what_it_shows() {
        let page = Page {
            organization: Some("A & B <script>".to_owned()),
            heading: "x".to_owned(),
            text: "\"<b>\"".to_owned(),
            choice: None,
            support: None,
        };
        let html = page.render().unwrap();
        assert!(!html.contains("<script>") && !html.contains("<b>") && !html.contains("<form"), "{html}");
    }
}
