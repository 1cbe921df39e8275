//! A counter in one of the resources, guarded by a fence or written plainly. It is all that differs between the
//! stories.

use std::fs;
use std::path::PathBuf;

use mysql_async::prelude::Queryable as _;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use rusqlite::OptionalExtension as _;
use ticketlock_fencing::file::FencedFile;
use ticketlock_fencing::object::FencedObject;
use ticketlock_fencing::sql::{Dialect, SqlFence};
use ticketlock_fencing::{Error, Fence};

use crate::servers::{MariaDb, azure};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS counter \
                     (name VARCHAR(64) PRIMARY KEY, count BIGINT NOT NULL DEFAULT 0, fence BIGINT NOT NULL DEFAULT 0)";
const COUNT: &str = "SELECT count FROM counter WHERE name = ?";
const PLAIN: &str = "UPDATE counter SET count = ? WHERE name = ?";

/// Where the counter is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In this file.
    File(PathBuf),
    /// In a row of this database.
    Sqlite(PathBuf),
    /// In a row of this name, on the server at this socket.
    MariaDb(PathBuf, String),
    /// In an object of this name, on the server at this address.
    Object(String, String),
}

/// A counter at zero, until somebody writes.
#[derive(Clone, Debug)]
pub struct Counter {
    pub place: Place,
    /// Whether requests show their fence.
    pub fenced: bool,
}

impl Counter {
    /// As arguments of a process.
    pub fn to_arguments(&self) -> [String; 4] {
        let text = |path: &PathBuf| path.display().to_string();
        let (kind, at, name) = match &self.place {
            Place::File(path) => ("file", text(path), ""),
            Place::Sqlite(path) => ("sqlite", text(path), ""),
            Place::MariaDb(socket, name) => ("mariadb", text(socket), name.as_str()),
            Place::Object(address, name) => ("object", address.clone(), name.as_str()),
        };
        [kind.to_owned(), at, name.to_owned(), self.fenced.to_string()]
    }

    /// From arguments.
    pub fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Self {
        let [kind, at, name, fenced] = [(); 4].map(|()| arguments.next().expect("four arguments"));
        let place = match kind.as_str() {
            "file" => Place::File(at.into()),
            "sqlite" => Place::Sqlite(at.into()),
            "mariadb" => Place::MariaDb(at.into(), name),
            _ => Place::Object(at, name),
        };
        let fenced = fenced == "true";
        Self { place, fenced }
    }

    /// Makes what must be there before it is used.
    pub async fn make(&self) {
        match &self.place {
            Place::File(_) | Place::Object(..) => {}
            Place::Sqlite(path) => {
                let database = rusqlite::Connection::open(path).expect("opened");
                database.execute(TABLE, []).expect("made");
                let entered = database.execute(&rows(Dialect::Sqlite).enter(), ["it"]);
                assert_eq!(entered.expect("entered"), 1);
            }
            Place::MariaDb(socket, name) => {
                let mut database = MariaDb::connect(socket, true).await;
                database.query_drop(TABLE).await.expect("made");
                let enter = rows(Dialect::MySql).enter();
                database.exec_drop(enter, (name,)).await.expect("entered");
            }
        }
    }

    /// What it counts now.
    pub async fn read(&self, fence: Fence) -> Result<i64, Error> {
        let number = |bytes: &[u8]| str::from_utf8(bytes).expect("text").parse().unwrap_or(0);
        match &self.place {
            Place::File(path) if self.fenced => Ok(number(&FencedFile::open(path)?.read(fence)?)),
            Place::File(path) => Ok(fs::read(path).map_or(0, |bytes| number(&bytes))),
            Place::Sqlite(path) => {
                let database = rusqlite::Connection::open(path).expect("opened");
                if self.fenced {
                    sqlite(&database, &rows(Dialect::Sqlite).claim(), fence, None)?;
                }
                Ok(database.query_row(COUNT, ["it"], |row| row.get(0)).expect("a row"))
            }
            Place::MariaDb(socket, name) => {
                let mut database = MariaDb::connect(socket, true).await;
                if self.fenced {
                    mariadb(&mut database, &rows(Dialect::MySql).claim(), fence, None, name).await?;
                }
                let count = database.exec_first(COUNT, (name,)).await.expect("read");
                Ok(count.expect("a row"))
            }
            Place::Object(address, name) => {
                let (store, path) = (azure::store(address), Path::from(name.as_str()));
                if self.fenced {
                    return Ok(number(&FencedObject::new(store, path).read(fence).await?));
                }
                match store.get(&path).await {
                    Ok(got) => Ok(number(&got.bytes().await?)),
                    Err(object_store::Error::NotFound { .. }) => Ok(0),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Sets it.
    pub async fn write(&self, fence: Fence, count: i64) -> Result<(), Error> {
        let text = count.to_string();
        match &self.place {
            Place::File(path) if self.fenced => FencedFile::open(path)?.write(fence, text.as_bytes()),
            Place::File(path) => {
                fs::write(path, text).expect("written");
                Ok(())
            }
            Place::Sqlite(path) => {
                let database = rusqlite::Connection::open(path).expect("opened");
                if self.fenced {
                    let update = rows(Dialect::Sqlite).update(&["count"])?;
                    return sqlite(&database, &update, fence, Some(count));
                }
                assert_eq!(database.execute(PLAIN, (count, "it")).expect("written"), 1);
                Ok(())
            }
            Place::MariaDb(socket, name) => {
                let mut database = MariaDb::connect(socket, true).await;
                if self.fenced {
                    let update = rows(Dialect::MySql).update(&["count"])?;
                    return mariadb(&mut database, &update, fence, Some(count), name).await;
                }
                database.exec_drop(PLAIN, (count, name)).await.expect("written");
                Ok(())
            }
            Place::Object(address, name) => {
                let (store, path) = (azure::store(address), Path::from(name.as_str()));
                if self.fenced {
                    return FencedObject::new(store, path).write(fence, text.into()).await;
                }
                store.put(&path, text.into()).await?;
                Ok(())
            }
        }
    }
}

fn rows(dialect: Dialect) -> SqlFence {
    SqlFence::new(dialect, "counter", "name", "fence").expect("valid names")
}

fn sqlite(database: &rusqlite::Connection, sql: &str, fence: Fence, count: Option<i64>) -> Result<(), Error> {
    use rusqlite::types::Value;
    let rows = rows(Dialect::Sqlite);
    let parameters = rows.parameters(fence, count.map(Value::from), Value::from("it".to_owned()));
    let changed = database.execute(sql, rusqlite::params_from_iter(parameters));
    if changed.expect("run") > 0 {
        return Ok(());
    }
    let seen = database.query_row(&rows.seen(), ["it"], |row| row.get(0)).optional();
    Err(rows.refusal(fence, seen.expect("read")))
}

async fn mariadb(
    database: &mut mysql_async::Conn,
    sql: &str,
    fence: Fence,
    count: Option<i64>,
    name: &str,
) -> Result<(), Error> {
    use mysql_async::Value;
    let rows = rows(Dialect::MySql);
    let parameters = rows.parameters(fence, count.map(Value::from), Value::from(name));
    database.exec_drop(sql, parameters).await.expect("run");
    if database.affected_rows() > 0 {
        return Ok(());
    }
    let seen = database.exec_first(rows.seen(), (name,)).await;
    Err(rows.refusal(fence, seen.expect("read")))
}
