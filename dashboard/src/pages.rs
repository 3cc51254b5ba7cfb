//! The pages. Each reads one snapshot, and each number on it links to the list of the devices that it counts.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;

use crate::clock;
use crate::filter::{At, Filter};
use crate::log::{chain, log};
use crate::shared::Shared;
use crate::store::{StoreError, view};

/// So many devices on a page of the list.
const ROWS: usize = 100;

/// What every page shows: when it is, and how to see another time.
struct Frame {
    /// The time that the page shows.
    shown: String,
    /// The time that was asked for; empty for the present.
    at: String,
    /// The query that keeps the time.
    keep: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    overview: view::Overview,
    address: String,
    refused: Vec<(String, u64)>,
}

#[derive(Template)]
#[template(path = "devices.html")]
struct DevicesPage {
    frame: Frame,
    list: view::List,
    /// What is selected, in words.
    selected: Vec<(String, String)>,
    /// The same query, for the search form.
    fields: Vec<(&'static str, String)>,
    search: String,
    csv: String,
    previous: Option<String>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage {
    frame: Frame,
    device: view::Device,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    frame: Frame,
    title: &'static str,
    message: String,
}

impl OverviewPage {
    /// How much of the fleet a row is, in percent.
    fn share(&self, row: &view::Counts) -> usize {
        let count = row.numbers.last().map_or(0, |number| number.count);
        (count * 100).div_ceil(self.overview.all.count.max(1))
    }
}

/// Which part of a list.
#[derive(Deserialize)]
pub(crate) struct Part {
    #[serde(default)]
    page: usize,
}

/// Why there is no page.
enum NoPage {
    Time(String),
    Unknown(String),
    Store(StoreError),
}

impl From<StoreError> for NoPage {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for NoPage {
    fn into_response(self) -> Response {
        let (status, title, message) = match self {
            Self::Time(at) => (
                StatusCode::BAD_REQUEST,
                "No such time",
                format!("`at={at}` is no time. Write it like `2026-11-28T10:00:00Z`."),
            ),
            Self::Unknown(device) => (
                StatusCode::NOT_FOUND,
                "No such device",
                format!("Nothing was known of {device} at that time."),
            ),
            Self::Store(error) => {
                let why = chain(&error);
                log(&format!("a page was not shown: {why}"));
                (StatusCode::INTERNAL_SERVER_ERROR, "The database does not respond", why)
            }
        };
        let frame = Frame { shown: String::new(), at: String::new(), keep: String::new() };
        page(status, &ErrorPage { frame, title, message })
    }
}

fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The time of a page. What is empty in a form was not filled in.
fn time(filter: &mut Filter) -> Result<(At, Frame), NoPage> {
    for field in [&mut filter.at, &mut filter.search] {
        field.take_if(|text| text.trim().is_empty());
    }
    let at = match &filter.at {
        None => At { moment: clock::now(), is_now: true },
        Some(text) => {
            let time: Timestamp = text.trim().parse().map_err(|_| NoPage::Time(text.clone()))?;
            At { moment: time.as_millisecond(), is_now: false }
        }
    };
    let only_time = Filter { at: filter.at.clone(), ..Filter::default() };
    let frame = Frame {
        shown: clock::print(at.moment),
        at: filter.at.clone().unwrap_or_default(),
        keep: only_time.link(""),
    };
    Ok((at, frame))
}

/// Reads in a thread that may wait for the disk.
async fn read<T: Send + 'static>(
    shared: Arc<Shared>,
    read: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, NoPage> {
    let reading = tokio::task::spawn_blocking(move || shared.store.read(read));
    Ok(reading.await.map_err(|error| StoreError::Damaged(error.to_string()))??)
}

pub(crate) async fn overview(
    State(shared): State<Arc<Shared>>,
    Query(mut filter): Query<Filter>,
) -> Result<Response, impl IntoResponse> {
    let (at, frame) = time(&mut filter)?;
    let only_time = Filter { at: filter.at, ..Filter::default() };
    let overview =
        read(Arc::clone(&shared), move |snapshot| view::overview(snapshot, &only_time, at)).await?;
    let page_of = OverviewPage {
        frame,
        overview,
        address: format!("http://{}", shared.address),
        refused: shared.refused.all(),
    };
    Ok::<_, NoPage>(page(StatusCode::OK, &page_of))
}

pub(crate) async fn devices(
    State(shared): State<Arc<Shared>>,
    Query(mut filter): Query<Filter>,
    Query(part): Query<Part>,
) -> Result<Response, impl IntoResponse> {
    let (at, frame) = time(&mut filter)?;
    let asked = filter.clone();
    let from = part.page.saturating_mul(ROWS);
    let list = read(shared, move |snapshot| view::list(snapshot, &asked, at, from, ROWS)).await?;
    let other = |page: usize| {
        let query = filter.query();
        let and = if query.is_empty() { "" } else { "&" };
        format!("/devices?{query}{and}page={page}")
    };
    let fields = filter.fields();
    let page_of = DevicesPage {
        frame,
        selected: fields.iter().map(|(name, value)| view::in_words(name, value)).collect(),
        fields: fields.into_iter().filter(|(name, _)| *name != "search").collect(),
        search: filter.search.clone().unwrap_or_default(),
        csv: filter.link("/devices.csv"),
        previous: part.page.checked_sub(1).map(other),
        next: (from + list.devices.len() < list.total).then(|| other(part.page + 1)),
        list,
    };
    Ok::<_, NoPage>(page(StatusCode::OK, &page_of))
}

pub(crate) async fn devices_csv(
    State(shared): State<Arc<Shared>>,
    Query(mut filter): Query<Filter>,
) -> Result<Response, impl IntoResponse> {
    let (at, _) = time(&mut filter)?;
    let list = read(shared, move |snapshot| view::list(snapshot, &filter, at, 0, usize::MAX)).await?;
    let written = view::csv(&list.devices).map_err(|error| StoreError::Damaged(error.to_string()))?;
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"devices.csv\""),
    ];
    Ok::<_, NoPage>((headers, written).into_response())
}

pub(crate) async fn device(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(mut filter): Query<Filter>,
) -> Result<Response, impl IntoResponse> {
    let (at, frame) = time(&mut filter)?;
    let wanted = id.clone();
    let device = read(shared, move |snapshot| view::device(snapshot, &wanted, at)).await?;
    let device = device.ok_or(NoPage::Unknown(id))?;
    Ok::<_, NoPage>(page(StatusCode::OK, &DevicePage { frame, device }))
}

pub(crate) async fn style() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "max-age=600")];
    (headers, include_str!("../templates/style.css"))
}
