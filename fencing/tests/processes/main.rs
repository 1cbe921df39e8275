//! Goal: clients that are paused or killed at the worst moment do no harm to what is guarded, and do it to what is not.
//! Real processes with a real Ticketlock server, real files, databases and an object store.
//!
//! This program is its own clients, too: called with a first argument, it is one of them. So it brings its own `main`.

#![expect(clippy::expect_used, reason = "tests")]

mod counter;
mod killed;
mod paused;
#[path = "../servers/mod.rs"]
mod servers;
mod worker;

use std::process::ExitCode;

use counter::Place;
use libtest_mimic::{Arguments, Trial};
use servers::{Azurite, MariaDb, azure};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("worker") => {
            runtime().block_on(worker::work(arguments));
            ExitCode::SUCCESS
        }
        Some("write") => killed::write(arguments),
        _ => {
            let stories = vec![
                Trial::test("a_paused_writer_and_a_file", || {
                    let folder = tempfile::tempdir()?;
                    runtime().block_on(paused::story(|name| Place::File(folder.path().join(name))));
                    Ok(())
                }),
                Trial::test("a_paused_writer_and_sqlite", || {
                    let folder = tempfile::tempdir()?;
                    runtime().block_on(paused::story(|name| Place::Sqlite(folder.path().join(name))));
                    Ok(())
                }),
                Trial::test("a_paused_writer_and_mariadb", || {
                    let server = MariaDb::start();
                    runtime().block_on(paused::story(|name| {
                        Place::MariaDb(server.socket.clone(), name.to_owned())
                    }));
                    Ok(())
                }),
                Trial::test("a_paused_writer_and_an_object", || {
                    let server = Azurite::start();
                    let runtime = runtime();
                    runtime.block_on(azure::make_container(&server.address));
                    runtime.block_on(paused::story(|name| {
                        Place::Object(server.address.clone(), name.to_owned())
                    }));
                    Ok(())
                }),
                Trial::test("a_killed_writer_and_a_file", || {
                    killed::story();
                    Ok(())
                }),
            ];
            libtest_mimic::run(&Arguments::from_args(), stories).exit_code()
        }
    }
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}
