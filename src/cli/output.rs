//! How answers look: aligned columns for people, one JSON object per line for programs.

use std::time::Duration;

use serde_json::{Value, json};
use ticketlock_client::{Holder, LockInfo, Mode, Waiter, WatchChange, WatchEvent};

/// Whether an error only says that the reader of our output is gone.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|it| it.kind() == std::io::ErrorKind::BrokenPipe)
}

/// What came from others must not move the reader's cursor.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|it| if it.is_control() { '\u{fffd}' } else { it })
        .collect()
}

/// Columns as wide as their widest cell.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// To the second; below a second to the millisecond.
pub fn age(duration: Duration) -> String {
    let rounded = match duration.as_secs() {
        0 => Duration::from_millis(u64::from(duration.subsec_millis())),
        seconds => Duration::from_secs(seconds),
    };
    humantime::format_duration(rounded).to_string()
}

/// In one word.
pub fn mode_text(mode: Mode) -> String {
    match mode {
        Mode::Exclusive => "exclusive".to_owned(),
        Mode::Shared => "shared".to_owned(),
        Mode::Permits { permits, capacity: 0 } => format!("permits {permits}"),
        Mode::Permits { permits, capacity } => format!("permits {permits}/{capacity}"),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn mode_json(mode: Mode) -> (&'static str, Option<u32>) {
    match mode {
        Mode::Exclusive => ("EXCLUSIVE", None),
        Mode::Shared => ("SHARED", None),
        Mode::Permits { permits, .. } => ("PERMITS", Some(permits)),
    }
}

fn holder_json(it: &Holder) -> Value {
    let (mode, permits) = mode_json(it.mode);
    json!({
        "owner": it.owner,
        "ticket": it.ticket,
        "fencing_token": it.fencing_token,
        "mode": mode,
        "permits": permits,
        "hold_count": it.hold_count,
        "held_ms": ms(it.held),
        "lease_left_ms": ms(it.lease_left),
        "connected": it.connected,
        "metadata": it.metadata,
    })
}

fn waiter_json(it: &Waiter) -> Value {
    let (mode, permits) = mode_json(it.mode);
    json!({
        "owner": it.owner,
        "ticket": it.ticket,
        "position": it.position,
        "mode": mode,
        "permits": permits,
        "waited_ms": ms(it.waited),
        "connected": it.connected,
        "metadata": it.metadata,
    })
}

/// A key's state.
pub fn info_json(info: &LockInfo) -> Value {
    json!({
        "key": info.key,
        "holders": info.holders.iter().map(holder_json).collect::<Vec<_>>(),
        "waiters": info.waiters.iter().map(waiter_json).collect::<Vec<_>>(),
        "holders_total": info.holders_total,
        "waiters_total": info.waiters_total,
        "capacity": info.capacity,
        "lock_delay_left_ms": info.lock_delay_left.map(ms),
    })
}

/// A step of a watch.
pub fn event_json(event: &WatchEvent) -> Value {
    let (kind, body) = match &event.change {
        WatchChange::Snapshot(info) => ("snapshot", info_json(info)),
        WatchChange::SnapshotEnd => ("snapshot_end", Value::Null),
        WatchChange::Resync => ("resync", Value::Null),
        WatchChange::Changed(it) => (
            it.kind.as_str(),
            json!({
                "key": it.key,
                "owner": it.owner,
                "ticket": it.ticket,
                "fencing_token": it.fencing_token,
                "waiters": it.waiters,
            }),
        ),
        _ => ("unknown", Value::Null),
    };
    let (shard, epoch, revision) = (event.shard, event.epoch, event.revision);
    json!({ "event": kind, "shard": shard, "epoch": epoch, "revision": revision, "lock": body })
}
