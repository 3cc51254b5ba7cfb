//! Getting a file that is too large for memory: piece by piece, from where an earlier download ended, and through redirects.

use hyper::body::Bytes;
use reqwest::Response;
use url::Url;

use super::{Http, HttpError, host, refused, unreachable};

/// How many responses may lead to another one.
const MAXIMUM_REDIRECTS: usize = 5;
/// Longer than any entity tag in use, in bytes.
const MAXIMUM_ETAG: usize = 256;

/// The body of a response, read piece by piece.
#[derive(Debug)]
pub struct Body {
    response: Response,
    url: Url,
    offset: u64,
}

impl Body {
    /// Where in the file it begins: 0, or what was asked for.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The entity tag of the whole file, if it is a strong one (RFC 9110, section 8.8.3).
    #[must_use]
    pub fn etag(&self) -> Option<String> {
        let etag = self.header("etag")?;
        (etag.starts_with('"') && etag.len() <= MAXIMUM_ETAG).then(|| etag.to_owned())
    }

    /// How many bytes of it are to come, if the server says so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Whether the server calls it a web page.
    #[must_use]
    pub fn is_web_page(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The response broke off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let broken = |source: reqwest::Error| HttpError::Broken {
            host: host(&self.url),
            source: source.without_url(),
        };
        self.response.chunk().await.map_err(broken)
    }
}

impl Http {
    /// Starts a GET of a file, or of the rest of it from `part.0` on, if it is still the one with the entity tag `part.1`
    /// (RFC 9110, sections 13.1.5 and 14.2). Follows redirects to where `allows` says. The caller reads the body piece by piece.
    ///
    /// # Errors
    /// No response came, or none with the file.
    pub async fn open(
        &self,
        url: &Url,
        part: Option<(u64, &str)>,
        allows: impl Fn(&Url) -> bool,
    ) -> Result<Body, HttpError> {
        let mut url = url.clone();
        let mut part = part.filter(|(offset, _)| *offset > 0);
        for _ in 0..MAXIMUM_REDIRECTS {
            self.route(&url).await;
            let mut request = self.client.get(url.clone());
            if let Some((offset, etag)) = part {
                request = request.header("range", format!("bytes={offset}-")).header("if-range", etag);
            }
            let response = request.send().await.map_err(|source| unreachable(&url, source))?;
            let header = |name: &str| response.headers().get(name)?.to_str().ok();
            let status = response.status().as_u16();
            match (status, part) {
                (200, _) => return Ok(Body { response, url, offset: 0 }),
                (206, Some((offset, _))) if begins_at(header("content-range"), offset) => {
                    return Ok(Body { response, url, offset });
                }
                (206, _) => return Err(HttpError::Range { host: host(&url) }),
                // The part begins behind the end of the file: it is another one.
                (416, Some(_)) => part = None,
                (301 | 302 | 303 | 307 | 308, _) => {
                    let target = header("location").and_then(|location| url.join(location).ok());
                    let to = target.as_ref().map_or_else(
                        || "nowhere".to_owned(),
                        |target| format!("{}://{}", target.scheme(), host(target)),
                    );
                    let error = HttpError::Redirect { host: host(&url), to };
                    url = target.filter(&allows).ok_or(error)?;
                }
                (_, _) => return Err(refused(&url, &response)),
            }
        }
        Err(HttpError::Redirect { host: host(&url), to: "one server after another".to_owned() })
    }
}

/// Whether a `Content-Range` (RFC 9110, section 14.4) begins there.
fn begins_at(range: Option<&str>, offset: u64) -> bool {
    let first = range.and_then(|range| range.trim().strip_prefix("bytes ")?.split_once('-'));
    first.and_then(|(first, _)| first.trim().parse().ok()) == Some(offset)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::{AppendHeaders, IntoResponse as _, Redirect};
    use axum::routing::get;
    use policy_schema::settings::ProxyMode;

    use super::super::Network;
    use super::*;

    async fn serve(routes: Router) -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    fn client() -> Http {
        Http::new(&Network {
            proxy_mode: ProxyMode::Direct,
            proxy_url: None,
            proxy_bypass: Vec::new(),
            certificates: Vec::new(),
        })
        .unwrap()
    }

    async fn whole(mut body: Body) -> (u64, String) {
        let mut text = Vec::new();
        while let Some(chunk) = body.chunk().await.unwrap() {
            text.extend_from_slice(&chunk);
        }
        (body.offset(), String::from_utf8(text).unwrap())
    }

    #[tokio::test]
    async fn rest_of_a_file_is_requested_and_only_that_rest_is_accepted() {
        let part = |range: &'static str| {
            move |headers: HeaderMap| async move {
                assert_eq!(headers["range"], "bytes=3-");
                assert_eq!(headers["if-range"], "\"x\"");
                (StatusCode::PARTIAL_CONTENT, AppendHeaders([("content-range", range)]), "def")
                    .into_response()
            }
        };
        let routes = Router::new()
            .route("/part", get(part("bytes 3-5/6")))
            .route("/other", get(part("bytes 0-2/6")))
            .route("/whole", get(async || "abcdef"))
            .route(
                "/shorter",
                get(async |headers: HeaderMap| match headers.get("range") {
                    Some(_) => StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
                    None => "ab".into_response(),
                }),
            )
            .route(
                "/busy",
                get(async || (StatusCode::SERVICE_UNAVAILABLE, AppendHeaders([("retry-after", "77")]))),
            );
        let base = serve(routes).await;
        let open =
            async |path: &str| client().open(&base.join(path).unwrap(), Some((3, "\"x\"")), |_| false).await;
        assert_eq!(whole(open("part").await.unwrap()).await, (3, "def".to_owned()));
        assert_eq!(whole(open("whole").await.unwrap()).await, (0, "abcdef".to_owned()));
        assert_eq!(whole(open("shorter").await.unwrap()).await, (0, "ab".to_owned()));
        assert!(matches!(open("other").await, Err(HttpError::Range { .. })));
        assert!(matches!(open("busy").await, Err(HttpError::Later { seconds: 77, .. })));
    }

    #[tokio::test]
    async fn redirect_is_followed_only_where_it_is_allowed_and_not_for_ever() {
        let target = serve(Router::new().route("/file", get(async || "abc"))).await;
        let to = target.join("file").unwrap().to_string();
        let routes = Router::new()
            .route("/away", get(async move || Redirect::temporary(&to)))
            .route("/circle", get(async || Redirect::temporary("/circle")))
            .route("/nowhere", get(async || StatusCode::FOUND));
        let base = serve(routes).await;
        let open = async |path: &str, allowed: &Url| {
            let host = host(allowed);
            client().open(&base.join(path).unwrap(), None, |url| super::super::host(url) == host).await
        };
        assert_eq!(whole(open("away", &target).await.unwrap()).await, (0, "abc".to_owned()));
        let error = open("away", &base).await.unwrap_err().to_string();
        assert!(error.contains(&format!("redirects to http://{}", host(&target))), "{error}");
        assert!(matches!(open("circle", &base).await, Err(HttpError::Redirect { .. })));
        assert!(matches!(open("nowhere", &base).await, Err(HttpError::Redirect { .. })));
    }
}
