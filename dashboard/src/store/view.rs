//! What pages show, from one snapshot.

use std::collections::BTreeMap;

use policy_schema::Problem;
use protocol::diagnosis::Cause;
use protocol::health::ComponentHealth;
use protocol::report::Report;
use rusqlite::{OptionalExtension as _, Row, Transaction, params, params_from_iter};
use serde::Deserialize as _;

use super::StoreError;
use super::write::CURRENT;
use crate::clock::{self, Moment};
use crate::filter::{At, CONTACTS, Facet, Filter};

/// So many values of a facet are listed.
const VALUES: usize = 50;
/// So many reports of a device are listed.
const HISTORY: usize = 200;
/// The largest report that a page shows, in bytes.
const SHOWN: usize = 128 * 1024;
/// The states that devices have, the worst first. Others are shown if there are any.
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
        self.last.map_or_else(|| "not kept for that time".to_owned(), clock::print)
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

/// How many devices have each value of a facet, and have both a state and a contact.
#[derive(Default)]
struct Tally {
    facets: [BTreeMap<String, usize>; Facet::ALL.len()],
    states: BTreeMap<(String, String), usize>,
    total: usize,
}

/// Counts everything in one pass.
fn tally(snapshot: &Transaction<'_>, time: &Filter, at: At) -> Result<Tally, StoreError> {
    let columns = Facet::ALL.map(|facet| facet.expression(at)).join(", ");
    let mut query = snapshot.prepare(&format!("SELECT {columns} {}", time.sql(at, "")))?;
    let mut rows = query.query(params_from_iter(time.parameters()))?;
    let mut tally = Tally::default();
    while let Some(row) = rows.next()? {
        let text = |column: usize| -> rusqlite::Result<&str> { Ok(row.get_ref(column)?.as_str()?) };
        for (column, counts) in tally.facets.iter_mut().enumerate() {
            let value = text(column)?;
            match counts.get_mut(value) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(value.to_owned(), 1);
                }
            }
        }
        let [state, contact] = [text(0)?, text(1)?];
        *tally.states.entry((state.to_owned(), contact.to_owned())).or_default() += 1;
        tally.total += 1;
    }
    Ok(tally)
}

pub(crate) fn overview(snapshot: &Transaction<'_>, time: &Filter, at: At) -> Result<Overview, StoreError> {
    let number = |count: usize, filter: &Filter| Number { count, link: filter.link("/devices") };
    let tally = tally(snapshot, time, at)?;
    let row_of_state = |state: &str| {
        let of_state = time.with(Facet::State, state);
        let count = |contact: &str| {
            tally.states.get(&(state.to_owned(), contact.to_owned())).copied().unwrap_or_default()
        };
        let mut numbers: Vec<Number> =
            CONTACTS.map(|contact| number(count(contact), &of_state.with(Facet::Contact, contact))).into();
        numbers.push(number(CONTACTS.map(count).iter().sum(), &of_state));
        Counts { value: state.to_owned(), label: label(Facet::State, state), numbers }
    };
    let [states, ..] = &tally.facets;
    let others = states.keys().map(String::as_str).filter(|state| !STATES.contains(state));
    let states = STATES.into_iter().chain(others).map(row_of_state).collect();
    let spreads = Facet::ALL.into_iter().zip(&tally.facets).filter_map(|(facet, counts)| {
        let title = title(facet)?;
        let link = |value: &str| (label(facet, value), time.with(facet, value));
        Some(spread(title, counts.iter().map(|(value, count)| (value.clone(), *count)).collect(), link))
    });
    let conflicted = Filter { conflict: Some("yes".to_owned()), ..time.clone() };
    Ok(Overview {
        all: number(tally.total, time),
        states,
        spreads: spreads.collect(),
        problems: problems(snapshot, time, at)?,
        conflicts: number(count(snapshot, &conflicted, at)?, &conflicted),
    })
}

/// The heading of a facet's table, if it has one of its own.
fn title(facet: Facet) -> Option<&'static str> {
    match facet {
        Facet::State | Facet::Contact => None,
        Facet::Agent => Some("Versions of the agent"),
        Facet::App => Some("Versions of the app"),
        Facet::Policy => Some("Policy, by its hash"),
        Facet::System => Some("Operating systems"),
    }
}

fn count(snapshot: &Transaction<'_>, filter: &Filter, at: At) -> Result<usize, StoreError> {
    let sql = format!("SELECT count(*) {}", filter.sql(at, ""));
    Ok(snapshot.query_row(&sql, params_from_iter(filter.parameters()), |row| row.get(0))?)
}

fn problems(snapshot: &Transaction<'_>, time: &Filter, at: At) -> Result<Spread, StoreError> {
    // CROSS: from the reports to their problems. The other way is by far longer, for most problems are of the past.
    let sql = time.sql(at, "CROSS JOIN problem o ON o.report = r.number");
    let mut query = snapshot.prepare(&format!("SELECT o.code, count(*) {sql} GROUP BY 1"))?;
    let rows = query.query_map(params_from_iter(time.parameters()), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let counts = rows.collect::<Result<_, _>>()?;
    let link = |code: &str| (code.to_owned(), Filter { problem: Some(code.to_owned()), ..time.clone() });
    Ok(spread("Problems", counts, link))
}

/// The values that most devices have.
fn spread(
    title: &'static str,
    mut counts: Vec<(String, usize)>,
    link: impl Fn(&str) -> (String, Filter),
) -> Spread {
    counts.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let is_cut = counts.len() > VALUES;
    counts.truncate(VALUES);
    let row = |(value, count): (String, usize)| {
        let (label, filter) = link(&value);
        Counts { value, label, numbers: vec![Number { count, link: filter.link("/devices") }] }
    };
    Spread { title, rows: counts.into_iter().map(row).collect(), is_cut }
}

/// The columns of [`listed`].
fn columns(at: At) -> String {
    let facets = Facet::ALL.map(|facet| facet.expression(at)).join(", ");
    let moment = at.moment;
    format!(
        "d.id, {facets}, (SELECT CASE WHEN p.last <= {moment} THEN p.last ELSE NULL END FROM presence p
         WHERE p.device = d.number AND p.since <= {moment} ORDER BY p.since DESC LIMIT 1)"
    )
}

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

/// The devices that a filter selects, from one on.
pub(crate) fn list(
    snapshot: &Transaction<'_>,
    filter: &Filter,
    at: At,
    from: usize,
    most: usize,
) -> Result<List, StoreError> {
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let (columns, sql) = (columns(at), filter.sql(at, ""));
    let sql = format!("SELECT {columns} {sql} ORDER BY d.id LIMIT {} OFFSET {}", number(most), number(from));
    let mut query = snapshot.prepare(&sql)?;
    let keep = Filter { at: filter.at.clone(), ..Filter::default() }.link("");
    let rows = query.query_map(params_from_iter(filter.parameters()), |row| listed(row, &keep))?;
    Ok(List { total: count(snapshot, filter, at)?, devices: rows.collect::<Result<_, _>>()? })
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
    let sql = Filter::default().sql(at, "JOIN body b ON b.report = r.number");
    let sql = format!(
        "SELECT {}, d.number, d.first_seen, CASE WHEN d.conflict_until > {} THEN d.conflict_from END, b.bytes {sql} AND d.id = ?",
        columns(at),
        at.moment
    );
    let found = snapshot
        .query_row(&sql, [id], |row| {
            let rest: (i64, Moment, Option<Moment>, Vec<u8>) =
                (row.get(8)?, row.get(9)?, row.get(10)?, row.get(11)?);
            Ok((listed(row, "")?, rest))
        })
        .optional()?;
    let Some((listed, (number, first_seen, conflict, body))) = found else { return Ok(None) };
    let damaged = |error: &dyn std::fmt::Display| StoreError::Damaged(format!("the report of {id}: {error}"));
    let body = zstd::decode_all(&body[..]).map_err(|error| damaged(&error))?;
    // As it was read when it came: the last of two fields with one name counts.
    let shown: serde_json::Value = serde_json::from_slice(&body).map_err(|error| damaged(&error))?;
    let report = Report::deserialize(&shown).map_err(|error| damaged(&error))?;
    let mut components = Vec::new();
    flatten(&report.health, 0, &mut components);
    let problems: Vec<Problem> = report.problems().cloned().collect();
    let causes = report.diagnoses.iter().filter_map(|one| one.id.known());
    let remedy = |cause: Cause| Remedy { symptom: cause.symptom(), fixes: cause.fixes() };
    let presence = presence(snapshot, number, at)?;
    Ok(Some(Device {
        first_seen: clock::print(first_seen),
        conflict: conflict.filter(|moment| *moment <= at.moment).map(clock::print),
        // For the past it is not known: later reports have prolonged it.
        promised: presence.first().filter(|_| at.is_now).map(|(_, until)| clock::print(*until)),
        components,
        problems,
        remedies: causes.map(remedy).collect(),
        history: history(snapshot, number, at)?,
        presence: presence
            .into_iter()
            .map(|(since, until)| (clock::print(since), clock::print(until)))
            .collect(),
        report: if body.len() > SHOWN {
            format!("It has {} bytes, which is too much for a page.", body.len())
        } else {
            serde_json::to_string_pretty(&shown).map_err(|error| damaged(&error))?
        },
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
