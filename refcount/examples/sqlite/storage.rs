//! Counts in a SQLite database, which several processes may share: all that a storage of one's own takes. Knows the
//! table below, and nothing of the rules.
//!
//! Compare-and-set is one `UPDATE` whose `WHERE` names the expected record. Node ids are kept as one text, each after its
//! length, so that no character is special.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};
use ticketlock_refcount::{RefCountStorage, ReferenceCount, StorageError};

/// How long a statement waits for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

/// Keeps counts in one database file.
#[derive(Debug)]
pub struct SqliteStorage {
    /// One statement at a time.
    connection: Mutex<Connection>,
}

impl SqliteStorage {
    /// Opens the database, and makes it and its table where they are missing.
    ///
    /// # Errors
    /// [`StorageError::Failed`] where SQLite cannot open it.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let open = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            // What was answered is on the disk.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS counts (resource_id TEXT PRIMARY KEY, nodes TEXT NOT NULL) WITHOUT ROWID",
            )?;
            Ok(connection)
        };
        let connection = Mutex::new(open().map_err(failed("opening the database"))?);
        Ok(Self { connection })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A statement is all or nothing, whoever panicked in between.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefCountStorage for SqliteStorage {
    fn get_ref_count(&self, resource_id: &str) -> Result<ReferenceCount, StorageError> {
        let sql = "SELECT nodes FROM counts WHERE resource_id = ?1";
        let nodes: Option<String> = self
            .connection()
            .query_row(sql, params![resource_id], |row| row.get(0))
            .optional()
            .map_err(failed("reading a count"))?;
        let Some(nodes) = nodes else {
            return Ok(ReferenceCount::new());
        };
        from_text(&nodes).ok_or_else(|| StorageError::Corrupt {
            place: format!("table counts, resource_id {resource_id:?}"),
            problem: "nodes: not a list of lengths and ids".to_owned(),
        })
    }

    fn set_ref_count(
        &self,
        resource_id: &str,
        expected: &ReferenceCount,
        new: &ReferenceCount,
    ) -> Result<(), StorageError> {
        if new.is_empty() {
            return self.delete_ref_count(resource_id, expected);
        }
        let new = to_text(new);
        let changed = if expected.is_empty() {
            let sql = "INSERT INTO counts (resource_id, nodes) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            self.connection().execute(sql, params![resource_id, new])
        } else {
            let sql = "UPDATE counts SET nodes = ?2 WHERE resource_id = ?1 AND nodes = ?3";
            self.connection()
                .execute(sql, params![resource_id, new, to_text(expected)])
        };
        one_row(changed.map_err(failed("writing a count"))?)
    }

    fn delete_ref_count(&self, resource_id: &str, expected: &ReferenceCount) -> Result<(), StorageError> {
        if expected.is_empty() {
            let there = !self.get_ref_count(resource_id)?.is_empty();
            return if there { Err(StorageError::Conflict) } else { Ok(()) };
        }
        let sql = "DELETE FROM counts WHERE resource_id = ?1 AND nodes = ?2";
        let changed = self.connection().execute(sql, params![resource_id, to_text(expected)]);
        one_row(changed.map_err(failed("removing a count"))?)
    }
}

/// No row matched: the record is not as expected.
fn one_row(changed: usize) -> Result<(), StorageError> {
    if changed == 1 {
        Ok(())
    } else {
        Err(StorageError::Conflict)
    }
}

fn failed(what: &str) -> impl Fn(rusqlite::Error) -> StorageError {
    let what = what.to_owned();
    move |error| StorageError::Failed {
        what: what.clone(),
        source: Box::new(error),
    }
}

fn to_text(count: &ReferenceCount) -> String {
    count.nodes().map(|node| format!("{}:{node}", node.len())).collect()
}

fn from_text(mut text: &str) -> Option<ReferenceCount> {
    let mut nodes = Vec::new();
    while !text.is_empty() {
        let (length, rest) = text.split_once(':')?;
        let (node, rest) = rest.split_at_checked(length.parse().ok()?)?;
        nodes.push(node);
        text = rest;
    }
    Some(nodes.into_iter().collect())
}
