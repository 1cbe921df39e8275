//! Goal: rows refuse older tokens, in SQLite and on a real MariaDB, in single statements and in transactions.

#![expect(clippy::expect_used, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod servers;

use mysql_async::prelude::Queryable as _;
use rusqlite::{OptionalExtension as _, params_from_iter};
use servers::MariaDb;
use ticketlock_fencing::sql::{Dialect, SqlFence};
use ticketlock_fencing::{Error, Fence};

fn exclusive(token: u64) -> Fence {
    Fence::exclusive(token).expect("valid")
}

/// A value, for either driver.
#[derive(Clone)]
enum Value {
    Number(i64),
    Text(String),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Self::Number(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
        }
    }
}

impl From<Value> for mysql_async::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Number(number) => number.into(),
            Value::Text(text) => text.into(),
        }
    }
}

/// A connection.
enum Database {
    Sqlite(rusqlite::Connection),
    MariaDb(mysql_async::Conn),
}

impl Database {
    fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::MariaDb(_) => Dialect::MySql,
        }
    }

    /// Runs a statement; how many rows it counts.
    async fn run(&mut self, sql: &str, values: Vec<Value>) -> u64 {
        match self {
            Self::Sqlite(connection) => {
                let rows = connection.execute(sql, params_from_iter(values)).expect(sql);
                u64::try_from(rows).expect("few")
            }
            Self::MariaDb(connection) => {
                connection.exec_drop(sql, positional(values)).await.expect(sql);
                connection.affected_rows()
            }
        }
    }

    /// The one number that a query finds.
    async fn number(&mut self, sql: &str, values: Vec<Value>) -> Option<i64> {
        match self {
            Self::Sqlite(connection) => {
                let row = connection.query_row(sql, params_from_iter(values), |row| row.get(0));
                row.optional().expect(sql)
            }
            Self::MariaDb(connection) => connection.exec_first(sql, positional(values)).await.expect(sql),
        }
    }

    /// A guarded statement, as an application runs it.
    async fn guarded(
        &mut self,
        rows: &SqlFence,
        sql: &str,
        fence: Fence,
        values: Vec<Value>,
        key: &str,
    ) -> Result<(), Error> {
        if self.run(sql, rows.parameters(fence, values, key.into())).await > 0 {
            return Ok(());
        }
        let seen = self.number(&rows.seen(), vec![key.into()]).await;
        Err(rows.refusal(fence, seen))
    }
}

fn positional(values: Vec<Value>) -> mysql_async::Params {
    mysql_async::Params::Positional(values.into_iter().map(Into::into).collect())
}

#[track_caller]
fn check_refused(result: Result<(), Error>, seen: u64, given: u64) {
    let expected = Error::Stale { seen, given }.to_string();
    assert_eq!(result.expect_err("older").to_string(), expected);
}

/// A row of the application's own: its value, and what it saw.
async fn a_row_refuses_older_tokens(database: &mut Database) {
    let table = "CREATE TABLE account (name VARCHAR(64) PRIMARY KEY, balance BIGINT, fence BIGINT NOT NULL DEFAULT 0)";
    database.run(table, vec![]).await;
    database
        .run(
            "INSERT INTO account (name, balance) VALUES ('ann', 1), ('bob', 1)",
            vec![],
        )
        .await;
    let rows = SqlFence::new(database.dialect(), "account", "name", "fence").expect("valid names");
    let update = rows.update(&["balance"]).expect("a valid name");
    let claim = rows.claim();
    let balance = "SELECT balance FROM account WHERE name = ?";

    let newer = database
        .guarded(&rows, &update, exclusive(44), vec![8.into()], "ann")
        .await;
    newer.expect("nothing newer was there");
    let again = database
        .guarded(&rows, &update, exclusive(44), vec![8.into()], "ann")
        .await;
    again.expect("one holder makes many requests, equal ones too");
    let late = database
        .guarded(&rows, &update, exclusive(41), vec![2.into()], "ann")
        .await;
    check_refused(late, 44, 41);
    assert_eq!(database.number(balance, vec!["ann".into()]).await, Some(8));
    assert_eq!(
        database.number(balance, vec!["bob".into()]).await,
        Some(1),
        "another row is not touched"
    );

    // A claim shows the fence before a read, and changes nothing else.
    database
        .guarded(&rows, &claim, exclusive(50), vec![], "ann")
        .await
        .expect("newer");
    database
        .guarded(&rows, &claim, exclusive(50), vec![], "ann")
        .await
        .expect("again");
    assert_eq!(database.number(balance, vec!["ann".into()]).await, Some(8));
    check_refused(
        database
            .guarded(&rows, &update, exclusive(44), vec![9.into()], "ann")
            .await,
        50,
        44,
    );

    // Holders whose tokens are valid together; the first has unlocked by the time of the third's grant.
    let [first, second, third] =
        [(61, 61), (62, 61), (63, 62)].map(|(token, lowest)| Fence::new(token, lowest).expect("valid"));
    for shared in [second, first, third, second] {
        let written = database.guarded(&rows, &update, shared, vec![9.into()], "ann").await;
        written.expect("valid");
    }
    let late = database.guarded(&rows, &update, first, vec![9.into()], "ann").await;
    check_refused(late, 62, 61);
    let newer = database.guarded(&rows, &claim, exclusive(64), vec![], "ann").await;
    newer.expect("nothing newer was there");
    let late = database.guarded(&rows, &update, second, vec![9.into()], "ann").await;
    check_refused(late, 64, 62);

    let nobody = database
        .guarded(&rows, &update, exclusive(70), vec![9.into()], "eve' OR '1'='1")
        .await;
    assert!(matches!(nobody, Err(Error::Missing { .. })), "{nobody:?}");
    let all = "SELECT COUNT(*) FROM account WHERE fence >= ?";
    assert_eq!(
        database.number(all, vec![70.into()]).await,
        Some(0),
        "no key is read as SQL"
    );
}

/// A table of locks, whose rows are made when they are first needed.
async fn a_table_of_its_own(database: &mut Database) {
    let locks = SqlFence::new(database.dialect(), "ticketlock_fence", "lock_key", "seen").expect("valid names");
    for _ in 0..2 {
        database.run(&locks.create_table(), vec![]).await;
    }
    let keys = ["jobs/nightly", "JOBS/NIGHTLY", "jobs/nightly ", "jöbs"];
    for (token, key) in (1..).zip(keys) {
        let claimed = database
            .guarded(&locks, &locks.claim(), exclusive(token), vec![], key)
            .await;
        assert!(matches!(claimed, Err(Error::Missing { .. })), "{key:?}: {claimed:?}");
        for _ in 0..2 {
            database.run(&locks.enter(), vec![key.into()]).await;
        }
        let claimed = database
            .guarded(&locks, &locks.claim(), exclusive(token), vec![], key)
            .await;
        claimed.expect("a key compares as bytes, and so is new");
        database.run(&locks.enter(), vec![key.into()]).await;
        let seen = database.number(&locks.seen(), vec![key.into()]).await;
        assert_eq!(
            seen,
            Some(token.cast_signed()),
            "{key:?}: entering again forgets nothing"
        );
    }
}

/// Goal: SQLite.
#[tokio::test]
async fn sqlite_refuses_older_tokens() {
    let mut database = Database::Sqlite(rusqlite::Connection::open_in_memory().expect("a database"));
    a_row_refuses_older_tokens(&mut database).await;
    a_table_of_its_own(&mut database).await;
}

/// Goal: MariaDB, a server with its own ideas of which rows a statement changed, and of which keys are equal.
#[tokio::test]
async fn mariadb_refuses_older_tokens() {
    let server = MariaDb::start();
    let mut database = Database::MariaDb(MariaDb::connect(&server.socket, true).await);
    a_row_refuses_older_tokens(&mut database).await;
    a_table_of_its_own(&mut database).await;
    unchanged_rows_are_no_success(&server).await;
    a_claim_holds_until_its_commit(&server).await;
}

/// Goal: without `CLIENT_FOUND_ROWS`, where a repeat counts no row, nothing is taken for a success or for stale.
async fn unchanged_rows_are_no_success(server: &MariaDb) {
    let mut database = Database::MariaDb(MariaDb::connect(&server.socket, false).await);
    let rows = SqlFence::new(Dialect::MySql, "account", "name", "fence").expect("valid names");
    let update = rows.update(&["balance"]).expect("a valid name");
    database
        .guarded(&rows, &update, exclusive(80), vec![5.into()], "bob")
        .await
        .expect("newer");
    let repeated = database
        .guarded(&rows, &update, exclusive(80), vec![5.into()], "bob")
        .await;
    assert!(matches!(repeated, Err(Error::Undecided { .. })), "{repeated:?}");
    assert!(
        repeated
            .expect_err("undecided")
            .to_string()
            .contains("CLIENT_FOUND_ROWS")
    );
    check_refused(
        database
            .guarded(&rows, &update, exclusive(79), vec![4.into()], "bob")
            .await,
        80,
        79,
    );
}

/// Goal: a later holder cannot come between an earlier one's claim and its commit; after its claim the earlier is
/// refused.
async fn a_claim_holds_until_its_commit(server: &MariaDb) {
    let [mut first, mut second, mut watcher] = [
        MariaDb::connect(&server.socket, true).await,
        MariaDb::connect(&server.socket, true).await,
        MariaDb::connect(&server.socket, true).await,
    ]
    .map(Database::MariaDb);
    let locks = SqlFence::new(Dialect::MySql, "ticketlock_fence", "lock_key", "seen").expect("valid names");
    let claim = locks.claim();
    watcher.run(&locks.enter(), vec!["bank".into()]).await;
    first.run("START TRANSACTION", vec![]).await;
    first
        .guarded(&locks, &claim, exclusive(41), vec![], "bank")
        .await
        .expect("first");

    let later = async {
        second.run("START TRANSACTION", vec![]).await;
        second
            .guarded(&locks, &claim, exclusive(44), vec![], "bank")
            .await
            .expect("newer");
        let balance = second
            .number("SELECT balance FROM account WHERE name = 'bob'", vec![])
            .await;
        second.run("COMMIT", vec![]).await;
        balance
    };
    let earlier = async {
        // Not the table of waits: it is made anew only where nobody has read it for a tenth of a second.
        let waiting = "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status \
                       WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'";
        while watcher.number(waiting, vec![]).await == Some(0) {
            tokio::task::yield_now().await;
        }
        first
            .run("UPDATE account SET balance = 77 WHERE name = 'bob'", vec![])
            .await;
        first.run("COMMIT", vec![]).await;
    };
    let (balance, ()) = tokio::join!(later, earlier);
    assert_eq!(
        balance,
        Some(77),
        "the later holder's claim comes after the earlier one's commit, and sees it"
    );

    first.run("START TRANSACTION", vec![]).await;
    check_refused(
        first.guarded(&locks, &claim, exclusive(41), vec![], "bank").await,
        44,
        41,
    );
    first.run("ROLLBACK", vec![]).await;
}
