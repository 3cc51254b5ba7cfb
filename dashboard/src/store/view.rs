//! What pages show, from one snapshot.

use policy_schema::Problem;
use protocol::diagnosis::Cause;
use protocol::health::ComponentHealth;
use protocol::report::Report;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, Row, Transaction, params, params_from_iter};

use super::StoreError;
use super::write::CURRENT;
use crate::clock::{self, Moment};
use crate::filter::{At, CONTACTS, Facet, Filter};

/// So many values of a facet are listed.
const VALUES: usize = 50;
/// So many reports of a device are listed.
const HISTORY: usize = 200;
/// The states that a device can have, the worst first.
const STATES: [&str; 5] = ["fail", "error", "stale", "unknown", "pass"];

/// How many devices, and where they are listed.
pub(crate) struct Number {
    pub(crate) count: usize,
    pub(crate) link: String,
}

/// A row of a table: what it is about, and its numbers.
pub(crate) struct Counts {
    /// As addresses write it.
    pub(crate) value: String,
    pub(crate) label: String,
    pub(crate) numbers: Vec<Number>,
}

/// A table of one facet.
pub(crate) struct Spread {
    pub(crate) title: &'static str,
    pub(crate) rows: Vec<Counts>,
    /// Whether there are more values than rows.
    pub(crate) is_cut: bool,
}

pub(crate) struct Overview {
    pub(crate) all: Number,
    /// By state; the numbers are those of each contact and of both.
    pub(crate) states: Vec<Counts>,
    pub(crate) spreads: Vec<Spread>,
    pub(crate) problems: Spread,
    pub(crate) conflicts: Number,
}

/// A row of the list.
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) contact: String,
    pub(crate) agent: String,
    pub(crate) app: String,
    pub(crate) policy: String,
    pub(crate) system: String,
    /// When the last report or heartbeat came.
    pub(crate) last: Option<Moment>,
    pub(crate) link: String,
}

pub(crate) struct List {
    pub(crate) total: usize,
    pub(crate) devices: Vec<Listed>,
}

/// A component of the tree, and how deep it is.
pub(crate) struct Component {
    pub(crate) depth: usize,
    pub(crate) health: ComponentHealth,
}

/// What a device said once.
pub(crate) struct Said {
    pub(crate) from: String,
    pub(crate) until: Option<String>,
    pub(crate) state: String,
    pub(crate) agent: String,
    pub(crate) app: String,
    pub(crate) policy: String,
}

/// A cause, and what to do.
pub(crate) struct Remedy {
    pub(crate) symptom: &'static str,
    pub(crate) fixes: &'static [(&'static str, &'static str)],
}

pub(crate) struct Device {
    pub(crate) listed: Listed,
    pub(crate) first_seen: String,
    pub(crate) conflict: Option<String>,
    pub(crate) promised: Option<String>,
    pub(crate) components: Vec<Component>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) remedies: Vec<Remedy>,
    pub(crate) history: Vec<Said>,
    /// The times between which it has kept its promises, the last first.
    pub(crate) presence: Vec<(String, String)>,
    /// The report as it came.
    pub(crate) report: String,
}

impl Listed {
    pub(crate) fn state_in_words(&self) -> String {
        label(Facet::State, &self.state)
    }

    pub(crate) fn policy_in_words(&self) -> String {
        label(Facet::Policy, &self.policy)
    }

    /// When the last report or heartbeat came, as pages print it.
    pub(crate) fn last_printed(&self) -> String {
        self.last.map_or_else(|| "never".to_owned(), clock::print)
    }
}

/// A value of a facet, in words.
pub(crate) fn label(facet: Facet, value: &str) -> String {
    match (facet, value) {
        (_, "") => "none".to_owned(),
        (Facet::State, "pass") => "compliant".to_owned(),
        (Facet::State, "fail") => "not compliant".to_owned(),
        (Facet::State, "error") => "could not be observed".to_owned(),
        (Facet::State, "stale") => "not observed any more".to_owned(),
        (Facet::Policy, hash) => hash.chars().take(12).collect(),
        (_, value) => value.to_owned(),
    }
}

/// A part of a filter, in words.
pub(crate) fn in_words(name: &str, value: &str) -> (String, String) {
    let facet = Facet::ALL.into_iter().find(|facet| facet.name() == name);
    (name.to_owned(), facet.map_or_else(|| value.to_owned(), |facet| label(facet, value)))
}

pub(crate) fn overview(snapshot: &Transaction<'_>, time: &Filter, at: At) -> Result<Overview, StoreError> {
    let number = |count: usize, filter: &Filter| Number { count, link: filter.link("/devices") };
    let mut states: Vec<Counts> = Vec::new();
    let mut total = 0;
    let (sql, values) = time.sql(at);
    let mut counted = Vec::new();
    let mut query = snapshot.prepare(&format!("SELECT r.state, c.contact, count(*) {sql} GROUP BY 1, 2"))?;
    let rows = query.query_map(params_from_iter(values), |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, usize>(2)?))
    })?;
    for row in rows {
        counted.push(row?);
    }
    for state in STATES {
        let of_state = time.with(Facet::State, state);
        let count = |contact: Option<&str>| -> usize {
            let is = |row: &&(String, String, usize)| {
                row.0 == state && contact.is_none_or(|contact| row.1 == contact)
            };
            counted.iter().filter(is).map(|row| row.2).sum()
        };
        let mut numbers: Vec<Number> = CONTACTS
            .map(|contact| number(count(Some(contact)), &of_state.with(Facet::Contact, contact)))
            .into();
        numbers.push(number(count(None), &of_state));
        total += count(None);
        states.push(Counts { value: state.to_owned(), label: label(Facet::State, state), numbers });
    }
    let spreads = [
        (Facet::Agent, "Versions of the agent"),
        (Facet::App, "Versions of the app"),
        (Facet::Policy, "Policy, by its hash"),
        (Facet::System, "Operating systems"),
    ];
    let spreads = spreads.map(|(facet, title)| spread(snapshot, time, at, facet, title));
    let conflicted = Filter { conflict: Some("yes".to_owned()), ..time.clone() };
    let (sql, values) = conflicted.sql(at);
    let conflicts = count(snapshot, &sql, values)?;
    Ok(Overview {
        all: number(total, time),
        states,
        spreads: spreads.into_iter().collect::<Result<_, _>>()?,
        problems: problems(snapshot, time, at)?,
        conflicts: number(conflicts, &conflicted),
    })
}

fn count(snapshot: &Transaction<'_>, sql: &str, values: Vec<Value>) -> Result<usize, StoreError> {
    Ok(snapshot.query_row(&format!("SELECT count(*) {sql}"), params_from_iter(values), |row| row.get(0))?)
}

fn spread(
    snapshot: &Transaction<'_>,
    time: &Filter,
    at: At,
    facet: Facet,
    title: &'static str,
) -> Result<Spread, StoreError> {
    let (sql, values) = time.sql(at);
    let sql = format!("SELECT {}, count(*) {sql} GROUP BY 1", facet.expression());
    let link = |value: &str| (label(facet, value), time.with(facet, value));
    largest(snapshot, &sql, values, title, link)
}

fn problems(snapshot: &Transaction<'_>, time: &Filter, at: At) -> Result<Spread, StoreError> {
    let (sql, values) = time.sql(at);
    let sql =
        format!("SELECT code, count(*) FROM problem WHERE report IN (SELECT r.number {sql}) GROUP BY 1");
    let link = |code: &str| (code.to_owned(), Filter { problem: Some(code.to_owned()), ..time.clone() });
    largest(snapshot, &sql, values, "Problems", link)
}

/// The values that most devices have.
fn largest(
    snapshot: &Transaction<'_>,
    sql: &str,
    values: Vec<Value>,
    title: &'static str,
    link: impl Fn(&str) -> (String, Filter),
) -> Result<Spread, StoreError> {
    let mut query = snapshot.prepare(&format!("{sql} ORDER BY 2 DESC, 1 LIMIT {}", VALUES + 1))?;
    let rows = query
        .query_map(params_from_iter(values), |row| Ok((row.get::<_, String>(0)?, row.get::<_, usize>(1)?)))?;
    let mut found = Vec::new();
    for row in rows {
        let (value, count) = row?;
        let (label, filter) = link(&value);
        found.push(Counts { value, label, numbers: vec![Number { count, link: filter.link("/devices") }] });
    }
    let is_cut = found.len() > VALUES;
    found.truncate(VALUES);
    Ok(Spread { title, rows: found, is_cut })
}

/// The columns of [`listed`]. Its own value is the time, for the last report until then.
const COLUMNS: &str = "d.id, r.state, c.contact, r.agent_version, r.app_version, r.policy, r.system,
    (SELECT CASE WHEN p.last <= ? THEN p.last ELSE NULL END FROM presence p WHERE p.device = d.number AND p.since <= ?
     ORDER BY p.since DESC LIMIT 1)";

fn listed(row: &Row<'_>, keep: &str) -> rusqlite::Result<Listed> {
    let id: String = row.get(0)?;
    Ok(Listed {
        link: format!("/devices/{id}{keep}"),
        id,
        state: row.get(1)?,
        contact: row.get(2)?,
        agent: row.get(3)?,
        app: row.get(4)?,
        policy: row.get(5)?,
        system: row.get(6)?,
        last: row.get(7)?,
    })
}

fn with_time(at: At, values: Vec<Value>) -> impl Iterator<Item = Value> {
    [Value::Integer(at.moment), Value::Integer(at.moment)].into_iter().chain(values)
}

/// The devices that a filter selects, from one on.
pub(crate) fn list(
    snapshot: &Transaction<'_>,
    filter: &Filter,
    at: At,
    from: usize,
    most: usize,
) -> Result<List, StoreError> {
    let (sql, values) = filter.sql(at);
    let total = count(snapshot, &sql, values.clone())?;
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let mut query = snapshot.prepare(&format!(
        "SELECT {COLUMNS} {sql} ORDER BY d.id LIMIT {} OFFSET {}",
        number(most),
        number(from)
    ))?;
    let keep = Filter { at: filter.at.clone(), ..Filter::default() }.link("");
    let rows = query.query_map(params_from_iter(with_time(at, values)), |row| listed(row, &keep))?;
    Ok(List { total, devices: rows.collect::<Result<_, _>>()? })
}

/// The list as a spreadsheet reads it.
pub(crate) fn csv(devices: &[Listed]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["device", "state", "contact", "agent", "app", "policy", "system", "last_report"])?;
    for one in devices {
        let last = one.last.map(clock::print).unwrap_or_default();
        let fields =
            [&one.id, &one.state, &one.contact, &one.agent, &one.app, &one.policy, &one.system, &last];
        writer.write_record(fields.map(|field| inert(field)))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// What a spreadsheet does not take for a formula: a device may send anything.
fn inert(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{field}") } else { field.to_owned() }
}

/// One device, if something was known of it.
pub(crate) fn device(snapshot: &Transaction<'_>, id: &str, at: At) -> Result<Option<Device>, StoreError> {
    let (sql, mut values) = Filter::default().sql(at);
    values.push(Value::Text(id.to_owned()));
    let sql = format!("SELECT {COLUMNS}, d.number, d.first_seen, d.conflict_at, r.body {sql} AND d.id = ?");
    let found = snapshot
        .query_row(&sql, params_from_iter(with_time(at, values)), |row| {
            let rest: (i64, Moment, Option<Moment>, Vec<u8>) =
                (row.get(8)?, row.get(9)?, row.get(10)?, row.get(11)?);
            Ok((listed(row, "")?, rest))
        })
        .optional()?;
    let Some((listed, (number, first_seen, conflict, body))) = found else { return Ok(None) };
    let damaged = |error: &dyn std::fmt::Display| StoreError::Damaged(format!("the report of {id}: {error}"));
    let body = zstd::decode_all(&body[..]).map_err(|error| damaged(&error))?;
    let report: Report = serde_json::from_slice(&body).map_err(|error| damaged(&error))?;
    let mut components = Vec::new();
    flatten(&report.health, 0, &mut components);
    let problems: Vec<Problem> = report.problems().cloned().collect();
    let causes = report.diagnoses.iter().filter_map(|one| one.id.known());
    let remedy = |cause: Cause| Remedy { symptom: cause.symptom(), fixes: cause.fixes() };
    let shown: serde_json::Value = serde_json::from_slice(&body).map_err(|error| damaged(&error))?;
    let presence = presence(snapshot, number, at)?;
    Ok(Some(Device {
        first_seen: clock::print(first_seen),
        conflict: conflict.filter(|moment| *moment <= at.moment).map(clock::print),
        promised: presence.first().map(|(_, until)| clock::print(*until)),
        components,
        problems,
        remedies: causes.map(remedy).collect(),
        history: history(snapshot, number, at)?,
        presence: presence
            .into_iter()
            .map(|(since, until)| (clock::print(since), clock::print(until)))
            .collect(),
        report: serde_json::to_string_pretty(&shown).map_err(|error| damaged(&error))?,
        listed,
    }))
}

fn flatten(health: &ComponentHealth, depth: usize, into: &mut Vec<Component>) {
    into.push(Component { depth, health: ComponentHealth { components: Vec::new(), ..health.clone() } });
    for part in &health.components {
        flatten(part, depth + 1, into);
    }
}

fn history(snapshot: &Transaction<'_>, device: i64, at: At) -> Result<Vec<Said>, StoreError> {
    let mut query = snapshot.prepare(&format!(
        "SELECT from_at, until_at, state, agent_version, app_version, policy FROM report
         WHERE device = ? AND from_at <= ? ORDER BY from_at DESC, number DESC LIMIT {HISTORY}"
    ))?;
    let rows = query.query_map(params![device, if at.is_now { CURRENT } else { at.moment }], |row| {
        let until = Some(row.get::<_, Moment>(1)?).filter(|until| *until <= at.moment);
        Ok(Said {
            from: clock::print(row.get(0)?),
            until: until.map(clock::print),
            state: row.get(2)?,
            agent: row.get(3)?,
            app: row.get(4)?,
            policy: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn presence(snapshot: &Transaction<'_>, device: i64, at: At) -> Result<Vec<(Moment, Moment)>, StoreError> {
    let mut query = snapshot.prepare(&format!(
        "SELECT since, until FROM presence WHERE device = ? AND since <= ? ORDER BY since DESC LIMIT {HISTORY}"
    ))?;
    let rows = query.query_map(params![device, at.moment], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
