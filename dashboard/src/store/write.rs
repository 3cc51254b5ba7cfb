//! How an arrival changes what is kept.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{Kept, StoreError};
use crate::arrival::{Arrival, Facts};
use crate::clock::Moment;

/// While a report is the last one known.
pub(super) const CURRENT: Moment = Moment::MAX;
/// Of bodies.
const LEVEL: i32 = 3;

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
        .prepare_cached("SELECT digest FROM report WHERE device = ? AND until_at = ?")?
        .query_row(params![device.number, CURRENT], |row| row.get(0))
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
    // The range that ends last of those that begin at or before the next number, and the one after.
    let before: Option<(i64, i64)> = transaction
        .prepare_cached(
            "SELECT first, last FROM received WHERE device = ? AND epoch = ? AND last >= ? ORDER BY last LIMIT 1",
        )?
        .query_row(params![number, epoch, sequence.saturating_sub(1)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (mut first, mut last) = (sequence, sequence);
    let mut delete =
        transaction.prepare_cached("DELETE FROM received WHERE device = ? AND epoch = ? AND last = ?")?;
    if let Some((from, to)) = before {
        if (from..=to).contains(&sequence) {
            return Ok(false);
        }
        if to.checked_add(1) == Some(sequence) {
            first = from;
            delete.execute(params![number, epoch, to])?;
        }
    }
    let after: Option<(i64, i64)> = transaction
        .prepare_cached(
            "SELECT first, last FROM received WHERE device = ? AND epoch = ? AND last > ? ORDER BY last LIMIT 1",
        )?
        .query_row(params![number, epoch, sequence], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((from, to)) = after {
        if (from..=to).contains(&sequence) {
            // It began with a range that ends just before.
            return Ok(false);
        }
        if sequence.checked_add(1) == Some(from) {
            last = to;
            delete.execute(params![number, epoch, to])?;
        }
    }
    transaction
        .prepare_cached("INSERT INTO received (device, epoch, first, last) VALUES (?, ?, ?, ?)")?
        .execute(params![number, epoch, first, last])?;
    Ok(true)
}

fn keep_report(
    transaction: &Transaction<'_>,
    device: &Device,
    arrival: &Arrival,
    facts: &Facts,
) -> Result<(), StoreError> {
    let current: Option<(i64, String, i64, String, Moment)> = transaction
        .prepare_cached(
            "SELECT number, epoch, sequence, digest, from_at FROM report WHERE device = ? AND until_at = ?",
        )?
        .query_row(params![device.number, CURRENT], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    let mut from = arrival.received_at;
    let body =
        zstd::bulk::compress(&facts.body, LEVEL).map_err(|error| StoreError::Damaged(error.to_string()))?;
    let mut until = CURRENT;
    if let Some((number, epoch, sequence, digest, began)) = current {
        // The clock of this server may have gone back; what follows does not begin before.
        from = from.max(began);
        if epoch == arrival.epoch && arrival.sequence < sequence {
            // It waited while a later one did not: it is part of the history, and was never what is known.
            until = from;
        } else if digest == arrival.digest && !digest.is_empty() {
            transaction
                .prepare_cached("UPDATE report SET epoch = ?, sequence = ? WHERE number = ?")?
                .execute(params![arrival.epoch, arrival.sequence, number])?;
            transaction
                .prepare_cached("UPDATE body SET bytes = ? WHERE report = ?")?
                .execute(params![body, number])?;
            return set_epoch(transaction, device, arrival);
        } else {
            transaction
                .prepare_cached("UPDATE report SET until_at = ? WHERE number = ?")?
                .execute(params![from, number])?;
        }
    }
    transaction
        .prepare_cached(
            "INSERT INTO report (device, from_at, until_at, epoch, sequence, digest, state, agent_version, app_version,
             policy, system) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            device.number,
            from,
            until,
            arrival.epoch,
            arrival.sequence,
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
        .execute(params![number, body])?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO problem (report, code, severity) VALUES (?, ?, ?)")?;
    for (code, severity) in &facts.problems {
        insert.execute(params![number, code, severity])?;
    }
    if until == CURRENT { set_epoch(transaction, device, arrival) } else { Ok(()) }
}

/// The epoch of the report that is current. One that had been followed by another one comes from a second device with this identity.
fn set_epoch(transaction: &Transaction<'_>, device: &Device, arrival: &Arrival) -> Result<(), StoreError> {
    if device.epoch == arrival.epoch {
        return Ok(());
    }
    let numbers: i64 = transaction
        .prepare_cached(
            "SELECT coalesce(sum(last - first + 1), 0) FROM received WHERE device = ? AND epoch = ?",
        )?
        .query_row(params![device.number, arrival.epoch], |row| row.get(0))?;
    // This one is counted already.
    let conflict = (numbers > 1).then_some(arrival.received_at);
    transaction
        .prepare_cached(
            "UPDATE device SET epoch = ?, conflict_at = coalesce(?, conflict_at) WHERE number = ?",
        )?
        .execute(params![arrival.epoch, conflict, device.number])?;
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
