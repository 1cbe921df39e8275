//! Rows that refuse older tokens. It owns the text of the statements and what their answers mean; it knows no driver,
//! no connection and no transaction, so that it goes with whichever the application has.
//!
//! Invariants:
//! - Nothing of the caller's is in a statement but names that were checked and quoted; values travel as parameters.
//! - A refusal is never taken for a success: where the count of rows does not say enough, the answer is an error.

use crate::{Error, Fence};

/// Longest name of a table or column, in bytes: the shortest limit of the dialects.
const NAME_MAX: usize = 63;

/// Whose SQL is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3.24 or newer.
    Sqlite,
    /// MySQL 5.7 or MariaDB 10.3, or newer, with InnoDB. Connect with `CLIENT_FOUND_ROWS`: without it the server
    /// reports a row that had all the values already as not changed, and such a repeat ends in [`Error::Undecided`].
    MySql,
    /// PostgreSQL 9.5 or newer.
    Postgres,
}

/// The statements for one table, whose rows remember the highest `lowest_valid` that they saw.
///
/// The column for it is a `BIGINT NOT NULL DEFAULT 0` (SQLite: `INTEGER`), the key column is unique. Two ways of use:
///
/// - The column is in the application's own table: [`update`](Self::update) changes a row if the fence is not stale, in
///   one statement, and [`claim`](Self::claim) shows the fence before a read.
/// - It is in a table of its own, [`create_table`](Self::create_table), with a row for each lock: a transaction begins
///   with `claim`, and then writes what it likes. The row stays locked until the end of the transaction, so that a
///   later holder's claim comes after it. On SQLite, begin it with `BEGIN IMMEDIATE`.
///
/// ```
/// use rusqlite::{Connection, params_from_iter, types::Value};
/// use ticketlock_fencing::sql::{Dialect, SqlFence};
/// use ticketlock_fencing::{Error, Fence};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let database = Connection::open_in_memory()?;
/// database.execute_batch(
///     "CREATE TABLE account (name TEXT PRIMARY KEY, balance INTEGER, fence INTEGER NOT NULL DEFAULT 0);
///      INSERT INTO account (name, balance) VALUES ('ann', 7);",
/// )?;
/// let accounts = SqlFence::new(Dialect::Sqlite, "account", "name", "fence")?;
/// let set = |fence: Fence, balance: i64| -> Result<(), Box<dyn std::error::Error>> {
///     let values = accounts.parameters(fence, [Value::from(balance)], Value::from("ann".to_owned()));
///     if database.execute(&accounts.update(&["balance"])?, params_from_iter(values))? == 0 {
///         let seen = database.query_row(&accounts.seen(), ["ann"], |row| row.get(0)).ok();
///         return Err(accounts.refusal(fence, seen).into());
///     }
///     Ok(())
/// };
/// set(Fence::exclusive(44)?, 8)?;
/// let late = set(Fence::exclusive(41)?, 8).expect_err("older");
/// assert!(late.downcast::<Error>()?.is_stale());
/// # Ok(()) }
/// ```
///
/// A row that is deleted forgets what it saw. Mark it as deleted instead, by a guarded update.
#[derive(Clone, Debug)]
pub struct SqlFence {
    dialect: Dialect,
    /// Quoted, as are the columns.
    table: String,
    key: String,
    fence: String,
}

impl SqlFence {
    /// For the rows of `table`, found by `key_column`, which remember in `fence_column`. A table's name may be
    /// qualified by one dot. Names are quoted, and so compare with their case where the database does.
    ///
    /// # Errors
    /// [`Error::InvalidName`] unless each name is 1 to 63 of `A-Z`, `a-z`, `0-9` and `_`, beginning with no digit.
    pub fn new(dialect: Dialect, table: &str, key_column: &str, fence_column: &str) -> Result<Self, Error> {
        let quoted = table.splitn(2, '.').map(|part| quote(dialect, "table", part));
        let quoted: Vec<String> = quoted.collect::<Result<_, _>>()?;
        Ok(Self {
            dialect,
            table: quoted.join("."),
            key: quote(dialect, "key column", key_column)?,
            fence: quote(dialect, "fence column", fence_column)?,
        })
    }

    /// Creates the table with nothing but these two columns, unless it is there. Keys are up to 512 bytes, as those of
    /// Ticketlock, and compare as bytes.
    #[must_use]
    pub fn create_table(&self) -> String {
        let (key, number) = match self.dialect {
            Dialect::Sqlite => ("TEXT", "INTEGER"),
            // Not VARCHAR: its comparison ignores case, accents or spaces at the end, depending on the collation.
            Dialect::MySql => ("VARBINARY(512)", "BIGINT"),
            Dialect::Postgres => ("TEXT", "BIGINT"),
        };
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({} {key} NOT NULL PRIMARY KEY, {} {number} NOT NULL DEFAULT 0)",
            self.table, self.key, self.fence
        )
    }

    /// Makes a row that saw nothing, unless there is one with this key. Parameter: the key.
    ///
    /// For tables whose other columns have defaults. Run it in a transaction of its own, before the one that claims.
    #[must_use]
    pub fn enter(&self) -> String {
        let Self { table, key, fence, .. } = self;
        let key_value = self.parameter(1);
        let or_not = match self.dialect {
            Dialect::Sqlite | Dialect::Postgres => format!("ON CONFLICT ({key}) DO NOTHING"),
            // Not INSERT IGNORE, which ignores what is wrong with the values, too.
            Dialect::MySql => format!("ON DUPLICATE KEY UPDATE {key} = {key}"),
        };
        format!("INSERT INTO {table} ({key}, {fence}) VALUES ({key_value}, 0) {or_not}")
    }

    /// Shows the fence to a row, and changes nothing else. Parameters: those of [`parameters`](Self::parameters),
    /// without values. If it changes no row, ask [`seen`](Self::seen), and [`refusal`](Self::refusal) says why.
    #[must_use]
    pub fn claim(&self) -> String {
        self.guarded(&[])
    }

    /// Sets columns of a row, unless the fence is stale. Parameters: those of [`parameters`](Self::parameters), with
    /// one value for each column. If it changes no row, ask [`seen`](Self::seen), and [`refusal`](Self::refusal) says
    /// why.
    ///
    /// # Errors
    /// [`Error::InvalidName`], as for [`new`](Self::new).
    pub fn update(&self, columns: &[&str]) -> Result<String, Error> {
        let quoted = columns.iter().map(|column| quote(self.dialect, "column", column));
        Ok(self.guarded(&quoted.collect::<Result<Vec<_>, _>>()?))
    }

    /// The parameters of [`claim`](Self::claim) and [`update`](Self::update), in their order: the values,
    /// `lowest_valid`, the key, the token.
    pub fn parameters<V: From<i64>>(&self, fence: Fence, values: impl IntoIterator<Item = V>, key: V) -> Vec<V> {
        // A token is below 2^53, and so the same as a signed number.
        let number = |number: u64| V::from(number.cast_signed());
        let mut parameters: Vec<V> = values.into_iter().collect();
        parameters.extend([number(fence.lowest_valid()), key, number(fence.token())]);
        parameters
    }

    /// Reads what a row saw. Parameter: the key. One column, at most one row.
    #[must_use]
    pub fn seen(&self) -> String {
        let Self { table, key, fence, .. } = self;
        format!("SELECT {fence} FROM {table} WHERE {key} = {}", self.parameter(1))
    }

    /// Why a guarded statement changed no row, given what the row saw afterwards; `None` if there is no row. The caller
    /// has been refused, whatever it says:
    ///
    /// - [`Error::Stale`]: a later holder was here. A repeat of a write that did take place says so, too, once a later
    ///   one has written.
    /// - [`Error::Missing`]: there is no such row.
    /// - [`Error::Undecided`]: neither; see there.
    /// - [`Error::Corrupt`]: the row saw a negative number.
    #[must_use]
    pub fn refusal(&self, fence: Fence, seen: Option<i64>) -> Error {
        let table = self.table.clone();
        let Some(seen) = seen else {
            return Error::Missing { table };
        };
        let Ok(seen) = u64::try_from(seen) else {
            return Error::Corrupt { resource: table };
        };
        match fence.admit(seen) {
            Err(stale) => stale,
            Ok(_) => Error::Undecided {
                table,
                seen,
                given: fence.token(),
            },
        }
    }

    fn guarded(&self, columns: &[String]) -> String {
        let Self { table, key, fence, .. } = self;
        let mut set = String::new();
        for (index, column) in columns.iter().enumerate() {
            set.push_str(&format!("{column} = {}, ", self.parameter(index + 1)));
        }
        let [lowest_valid, key_value, token] = [1, 2, 3].map(|nth| self.parameter(columns.len() + nth));
        let greater = match self.dialect {
            Dialect::Sqlite => "MAX",
            Dialect::MySql | Dialect::Postgres => "GREATEST",
        };
        // A fence that is NULL is not less than anything: such a row refuses.
        format!(
            "UPDATE {table} SET {set}{fence} = {greater}({fence}, {lowest_valid}) \
             WHERE {key} = {key_value} AND {fence} <= {token}"
        )
    }

    fn parameter(&self, nth: usize) -> String {
        match self.dialect {
            Dialect::Sqlite | Dialect::MySql => "?".to_owned(),
            Dialect::Postgres => format!("${nth}"),
        }
    }
}

/// The name between the dialect's quotes. It cannot hold one itself.
fn quote(dialect: Dialect, field: &'static str, name: &str) -> Result<String, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let digit_first = name.starts_with(|first: char| first.is_ascii_digit());
    if name.is_empty() || name.len() > NAME_MAX || digit_first || !name.bytes().all(plain) {
        let name = name.to_owned();
        return Err(Error::InvalidName { field, name });
    }
    Ok(match dialect {
        Dialect::Sqlite | Dialect::Postgres => format!("\"{name}\""),
        Dialect::MySql => format!("`{name}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each dialect gets its own text, with parameters in one order.
    #[test]
    fn statements_are_in_their_dialect() {
        let texts = [Dialect::Sqlite, Dialect::MySql, Dialect::Postgres].map(|dialect| {
            let rows = SqlFence::new(dialect, "bank.account", "name", "fence").expect("valid names");
            rows.update(&["balance", "note"]).expect("valid names")
        });
        assert_eq!(
            texts,
            [
                "UPDATE \"bank\".\"account\" SET \"balance\" = ?, \"note\" = ?, \"fence\" = MAX(\"fence\", ?) \
                 WHERE \"name\" = ? AND \"fence\" <= ?",
                "UPDATE `bank`.`account` SET `balance` = ?, `note` = ?, `fence` = GREATEST(`fence`, ?) \
                 WHERE `name` = ? AND `fence` <= ?",
                "UPDATE \"bank\".\"account\" SET \"balance\" = $1, \"note\" = $2, \"fence\" = GREATEST(\"fence\", $3) \
                 WHERE \"name\" = $4 AND \"fence\" <= $5",
            ]
        );
        let rows = SqlFence::new(Dialect::Sqlite, "account", "name", "fence").expect("valid names");
        let fence = Fence::new(9, 4).expect("valid");
        assert_eq!(rows.parameters(fence, [70_i64, 71], 5), [70, 71, 4, 5, 9]);
    }

    /// Goal: no name gets into a statement that could end its quotes, or that a dialect would cut off.
    #[test]
    fn names_cannot_break_out() {
        let long = "n".repeat(NAME_MAX + 1);
        for name in [
            "",
            "a b",
            "a\"b",
            "a`b",
            "a;--",
            "1a",
            "a.b.c",
            "ä",
            "a\0",
            long.as_str(),
        ] {
            for (table, key, fence) in [(name, "k", "f"), ("t", name, "f"), ("t", "k", name)] {
                let error = SqlFence::new(Dialect::MySql, table, key, fence).expect_err(name);
                assert!(matches!(error, Error::InvalidName { .. }), "{error}");
            }
            let rows = SqlFence::new(Dialect::MySql, "t", "k", "f").expect("valid names");
            rows.update(&["v", name]).expect_err(name);
        }
    }

    /// Goal: a statement that changed nothing is never explained away.
    #[test]
    fn no_changed_row_is_always_an_error() {
        let rows = SqlFence::new(Dialect::MySql, "t", "k", "f").expect("valid names");
        let fence = Fence::exclusive(41).expect("valid");
        for (seen, expected) in [
            (None, "no row with this key"),
            (
                Some(44),
                "stale: token 41, after a grant whose lowest valid token is 44",
            ),
            (Some(41), "token 41 is not below 41"),
            (Some(0), "token 41 is not below 0"),
            (Some(-1), "unreadable"),
        ] {
            let said = rows.refusal(fence, seen).to_string();
            assert!(said.contains(expected), "{seen:?}: {said}");
        }
    }
}
