//! Goal: `ticketlock verify` finds nothing wrong with a server that keeps its promises while it is killed, and tells what
//! one breaks that forgot its locks. It is the same tool that users have.

#![expect(clippy::expect_used, clippy::print_stderr, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod cli_server;

use std::process::{Child, Output, Stdio};

use cli_server::{Server, code};

/// Begins to look at a server, drawing its steps from this seed.
fn verify(server: &Server, seed: &str) -> Child {
    let mut command = server.command(&["verify", "--against", &server.endpoint, "--for", "6s", "--seed", seed]);
    command.args(["--ttl", "1s", "-o", "json"]);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// What it said: grants, and broken promises.
fn said(output: &Output) -> (u64, Vec<String>) {
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let grants = said
        .get("grants")
        .and_then(serde_json::Value::as_u64)
        .expect("a number");
    let violations = said.get("violations").and_then(|it| it.as_array()).expect("a list");
    (grants, violations.iter().map(ToString::to_string).collect())
}

/// Waits until the server has granted so many more.
fn granted(server: &Server, more: usize) {
    let mut watch = server.command(&["watch", "verify/", "-o", "json"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().expect("piped")));
    let grants = lines.map_while(Result::ok).filter(|line| line.contains("granted"));
    assert_eq!(grants.take(more).count(), more);
    watch.kill().expect("it runs");
    watch.wait().expect("it ended");
}

#[test]
fn a_server_that_keeps_its_promises_passes() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = format!("file:{}", dir.path().display());
    let mut server = Server::with(&store, "127.0.0.1:0");
    let verifying = verify(&server, "1");
    for _ in 0..3 {
        granted(&server, 300);
        server = server.killed_and_started(&store);
    }
    let output = verifying.wait_with_output().expect("it ended");
    let (grants, violations) = said(&output);
    eprintln!("{grants} grants over 3 kills");
    assert_eq!(violations, Vec::<String>::new());
    assert_eq!(code(&output), 0);
    assert!(grants > 1_000, "{grants} grants");
}

#[test]
fn a_server_that_forgot_is_found_out() {
    let mut server = Server::start();
    let verifying = verify(&server, "2");
    granted(&server, 300);
    server = server.killed_and_started("memory:");
    let output = verifying.wait_with_output().expect("it ended");
    drop(server);
    let (_, violations) = said(&output);
    assert_eq!(code(&output), 1);
    assert!(
        violations.iter().any(|it| it.contains("leases are kept")),
        "{violations:?}"
    );
}
