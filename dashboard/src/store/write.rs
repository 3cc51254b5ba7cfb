//! How an arrival changes what is kept.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{Kept, StoreError};
use crate::arrival::{Arrival, Facts};
use crate::clock::Moment;

/// While a report is the last one known.
pub(super) const CURRENT: Moment = Moment::MAX;
/// So long a conflict is shown after the last sign of it, in milliseconds.
const CONFLICT: i64 = 7 * 24 * 3_600_000;

/// What is known of a device.
struct Device {
    number: i64,
    epoch: String,
}

/// Keeps all of them, or none.
pub(super) fn commit<'a>(
    connection: &mut Connection,
    arrivals: impl Iterator<Item = &'a Arrival>,
) -> Result<Vec<Kept>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let kept = arrivals.map(|arrival| keep(&transaction, arrival)).collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(kept)
}

fn keep(transaction: &Transaction<'_>, arrival: &Arrival) -> Result<Kept, StoreError> {
    let known = transaction
        .prepare_cached("SELECT number, epoch FROM device WHERE id = ?")?
        .query_row([&arrival.device], |row| Ok(Device { number: row.get(0)?, epoch: row.get(1)? }))
        .optional()?;
    let Some(facts) = &arrival.facts else {
        let Some(device) = known else { return Ok(Kept::Unknown) };
        return keep_heartbeat(transaction, &device, arrival);
    };
    let device = if let Some(device) = known {
        device
    } else {
        transaction
            .prepare_cached("INSERT INTO device (id, first_seen, epoch) VALUES (?, ?, ?)")?
            .execute(params![arrival.device, arrival.received_at, arrival.epoch])?;
        Device { number: transaction.last_insert_rowid(), epoch: arrival.epoch.clone() }
    };
    if !mark_received(transaction, &device, arrival)? {
        return Ok(Kept::Duplicate);
    }
    keep_report(transaction, &device, arrival, facts)?;
    keep_presence(transaction, &device, arrival)?;
    Ok(Kept::New)
}

fn keep_heartbeat(
    transaction: &Transaction<'_>,
    device: &Device,
    arrival: &Arrival,
) -> Result<Kept, StoreError> {
    let digest: Option<String> = transaction
        .prepare_cached("SELECT digest FROM report WHERE device = ? AND until_at = 9223372036854775807")?
        .query_row([device.number], |row| row.get(0))
        .optional()?;
    if device.epoch != arrival.epoch
        || digest.as_deref() != Some(&arrival.digest)
        || arrival.digest.is_empty()
    {
        return Ok(Kept::Unknown);
    }
    if !mark_received(transaction, device, arrival)? {
        return Ok(Kept::Duplicate);
    }
    keep_presence(transaction, device, arrival)?;
    Ok(Kept::New)
}

/// Whether this number of the epoch is new; it is not any more afterwards.
fn mark_received(
    transaction: &Transaction<'_>,
    device: &Device,
    arrival: &Arrival,
) -> Result<bool, StoreError> {
    let (number, epoch, sequence) = (device.number, &arrival.epoch, arrival.sequence);
    // The ranges that may have it, or end just before it or begin just after it.
    let before: Option<(i64, i64)> = transaction
        .prepare_cached(
            "SELECT first, last FROM received WHERE device = ? AND epoch = ? AND last >= ? ORDER BY last LIMIT 1",
        )?
        .query_row(params![number, epoch, sequence.saturating_sub(1)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let after: Option<(i64, i64)> = transaction
        .prepare_cached(
            "SELECT first, last FROM received WHERE device = ? AND epoch = ? AND last > ? ORDER BY last LIMIT 1",
        )?
        .query_row(params![number, epoch, sequence], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if before.into_iter().chain(after).any(|(first, last)| (first..=last).contains(&sequence)) {
        return Ok(false);
    }
    let (mut first, mut last) = (sequence, sequence);
    let mut delete =
        transaction.prepare_cached("DELETE FROM received WHERE device = ? AND epoch = ? AND last = ?")?;
    if let Some((from, to)) = before.filter(|(_, to)| to.checked_add(1) == Some(sequence)) {
        first = from;
        delete.execute(params![number, epoch, to])?;
    }
    if let Some((_, to)) = after.filter(|(from, _)| sequence.checked_add(1) == Some(*from)) {
        last = to;
        delete.execute(params![number, epoch, to])?;
    }
    transaction
        .prepare_cached("INSERT INTO received (device, epoch, first, last) VALUES (?, ?, ?, ?)")?
        .execute(params![number, epoch, first, last])?;
    Ok(true)
}

/// The report that is current.
struct Current {
    number: i64,
    epoch: String,
    sent_at: Moment,
    from: Moment,
    digest: String,
    /// What lists show of it.
    columns: [String; 5],
}

fn current(transaction: &Transaction<'_>, device: &Device) -> rusqlite::Result<Option<Current>> {
    transaction
        .prepare_cached(
            "SELECT number, epoch, sent_at, from_at, digest, state, agent_version, app_version, policy, system
             FROM report WHERE device = ? AND until_at = 9223372036854775807",
        )?
        .query_row([device.number], |row| {
            Ok(Current {
                number: row.get(0)?,
                epoch: row.get(1)?,
                sent_at: row.get(2)?,
                from: row.get(3)?,
                digest: row.get(4)?,
                columns: [row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?, row.get(9)?],
            })
        })
        .optional()
}

/// Whether it says the same as the report that is current, whatever it calls itself.
fn says_the_same(
    transaction: &Transaction<'_>,
    current: &Current,
    digest: &str,
    facts: &Facts,
) -> rusqlite::Result<bool> {
    let columns = [&facts.state, &facts.agent_version, &facts.app_version, &facts.policy, &facts.system];
    if current.digest != digest || digest.is_empty() || current.columns.each_ref() != columns {
        return Ok(false);
    }
    let mut query = transaction.prepare_cached("SELECT code, severity FROM problem WHERE report = ?")?;
    let problems = query.query_map([current.number], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(problems.collect::<Result<BTreeMap<String, String>, _>>()? == facts.problems)
}

/// Whether a later one of the same device has arrived already: this one had to wait.
fn is_late(
    transaction: &Transaction<'_>,
    device: &Device,
    current: &Current,
    arrival: &Arrival,
) -> rusqlite::Result<bool> {
    if current.epoch != arrival.epoch {
        // An epoch that is new was begun after all others.
        return Ok(arrival.sent_at < current.sent_at && is_known(transaction, device, arrival)?);
    }
    let last: i64 = transaction
        .prepare_cached("SELECT max(last) FROM received WHERE device = ? AND epoch = ?")?
        .query_row(params![device.number, arrival.epoch], |row| row.get(0))?;
    Ok(arrival.sequence < last)
}

/// Whether the epoch of an arrival, which is counted already, had others before.
fn is_known(transaction: &Transaction<'_>, device: &Device, arrival: &Arrival) -> rusqlite::Result<bool> {
    let numbers: i64 = transaction
        .prepare_cached(
            "SELECT coalesce(sum(last - first + 1), 0) FROM received WHERE device = ? AND epoch = ?",
        )?
        .query_row(params![device.number, arrival.epoch], |row| row.get(0))?;
    Ok(numbers > 1)
}

fn keep_report(
    transaction: &Transaction<'_>,
    device: &Device,
    arrival: &Arrival,
    facts: &Facts,
) -> Result<(), StoreError> {
    let (mut from, mut until) = (arrival.received_at, CURRENT);
    if let Some(current) = current(transaction, device)? {
        // The clock of this server may have gone back; what follows does not begin before.
        from = from.max(current.from);
        if is_late(transaction, device, &current, arrival)? {
            // It is part of the history, and was never what is known.
            until = from;
        } else if says_the_same(transaction, &current, &arrival.digest, facts)? {
            transaction
                .prepare_cached("UPDATE report SET epoch = ?, sequence = ?, sent_at = ? WHERE number = ?")?
                .execute(params![arrival.epoch, arrival.sequence, arrival.sent_at, current.number])?;
            transaction
                .prepare_cached("UPDATE body SET bytes = ? WHERE report = ?")?
                .execute(params![facts.body, current.number])?;
            return set_epoch(transaction, device, arrival);
        } else {
            transaction
                .prepare_cached("UPDATE report SET until_at = ? WHERE number = ?")?
                .execute(params![from, current.number])?;
        }
    }
    transaction
        .prepare_cached(
            "INSERT INTO report (device, from_at, until_at, epoch, sequence, sent_at, digest, state, agent_version,
             app_version, policy, system) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            device.number,
            from,
            until,
            arrival.epoch,
            arrival.sequence,
            arrival.sent_at,
            arrival.digest,
            facts.state,
            facts.agent_version,
            facts.app_version,
            facts.policy,
            facts.system
        ])?;
    let number = transaction.last_insert_rowid();
    transaction
        .prepare_cached("INSERT INTO body (report, bytes) VALUES (?, ?)")?
        .execute(params![number, facts.body])?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO problem (report, code, severity) VALUES (?, ?, ?)")?;
    for (code, severity) in &facts.problems {
        insert.execute(params![number, code, severity])?;
    }
    if until == CURRENT { set_epoch(transaction, device, arrival) } else { Ok(()) }
}

/// The epoch of the report that is current. Two that come back after another one are of two devices with this identity.
fn set_epoch(transaction: &Transaction<'_>, device: &Device, arrival: &Arrival) -> Result<(), StoreError> {
    if device.epoch == arrival.epoch {
        return Ok(());
    }
    transaction
        .prepare_cached("UPDATE device SET epoch = ? WHERE number = ?")?
        .execute(params![arrival.epoch, device.number])?;
    if !is_known(transaction, device, arrival)? {
        return Ok(());
    }
    transaction
        .prepare_cached("INSERT OR IGNORE INTO returned (device, epoch) VALUES (?, ?)")?
        .execute(params![device.number, arrival.epoch])?;
    let returned: i64 = transaction
        .prepare_cached("SELECT count(*) FROM returned WHERE device = ?")?
        .query_row([device.number], |row| row.get(0))?;
    if returned > 1 {
        transaction
            .prepare_cached(
                "UPDATE device SET conflict_from = coalesce(conflict_from, ?), conflict_until = ? WHERE number = ?",
            )?
            .execute(params![
                arrival.received_at,
                arrival.received_at.saturating_add(CONFLICT),
                device.number
            ])?;
    }
    Ok(())
}

fn keep_presence(
    transaction: &Transaction<'_>,
    device: &Device,
    arrival: &Arrival,
) -> Result<(), StoreError> {
    let last: Option<(i64, i64)> = transaction
        .prepare_cached("SELECT since, until FROM presence WHERE device = ? ORDER BY since DESC LIMIT 1")?
        .query_row([device.number], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (at, until) = (arrival.received_at, arrival.promised_until);
    match last {
        // The promise was kept, or the clock of this server went back.
        Some((since, promised)) if at <= promised => transaction
            .prepare_cached(
                "UPDATE OR REPLACE presence SET since = min(since, ?), last = ?, until = ? WHERE device = ? AND since = ?",
            )?
            .execute(params![at, at, until, device.number, since])?,
        _ => transaction
            .prepare_cached("INSERT INTO presence (device, since, last, until) VALUES (?, ?, ?, ?)")?
            .execute(params![device.number, at, at, until])?,
    };
    Ok(())
}
