//! What the examples say where they cannot begin.

use tokio::net::TcpListener;
use tokio::process::Command;

use crate::stage::{program, soon};

const ALL: &[&str] = &[
    "auto_renewal_demo",
    "data_sync",
    "leader_election",
    "lock_demo",
    "locker_service",
    "shared_resource",
    "task_scheduler",
];

/// Each names itself and what is wrong, and fails: without a server, and with an endpoint that is none.
#[tokio::test(flavor = "multi_thread")]
async fn no_server_is_told_in_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let free = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    for name in ALL {
        for (endpoint, fault) in [
            (free.as_str(), "cannot reach http://127.0.0.1:"),
            ("ftp://a", "ftp://a"),
        ] {
            let output = Command::new(program(name)).arg(endpoint).output();
            let output = soon(name, output).await.expect("it runs");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(told.starts_with(&format!("{name}: ")) && told.contains(fault), "{told}");
            assert_eq!(output.status.code(), Some(1), "{name}");
        }
    }
}
