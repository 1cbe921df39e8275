//! Goal: a store can be copied while it serves, made anew from the copy, and looked at; what cannot be done is refused
//! with the reason, and nothing is changed.

#![expect(clippy::expect_used, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod cli_server;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cli_server::{BINARY, Server};

fn run(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).output().expect("it runs")
}

/// Standard output of what must succeed.
fn said(output: Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    String::from_utf8(output.stdout).expect("utf-8").trim().to_owned()
}

/// Standard error of what must fail.
fn refused(output: Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("utf-8")
}

fn token(server: &Server, key: &str) -> u64 {
    let token = said(server.run(&["lock", key, "--detach", "--ttl", "5m"]));
    token.parse().expect("a token")
}

fn inspected(dir: &Path) -> serde_json::Value {
    let shown = said(run(&["inspect", &dir.display().to_string(), "-o", "json"]));
    serde_json::from_str(&shown).expect("JSON")
}

fn count(store: &serde_json::Value, list: &str) -> usize {
    store.get(list).and_then(|list| list.as_array()).expect("a list").len()
}

#[test]
fn a_copy_becomes_a_store_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let server = Server::with(&format!("file:{}", text("store")), "127.0.0.1:0");
    let before: Vec<u64> = (0..100).map(|nth| token(&server, &format!("key {nth}"))).collect();
    said(server.run(&["backup", &text("copy")]));
    let twice = refused(server.run(&["backup", &text("copy")]));
    assert!(twice.contains("there is a file already"), "{twice}");
    let in_use = refused(run(&["inspect", &text("store")]));
    assert!(in_use.contains("in use by process"), "{in_use}");
    // What came after the copy is not in it; its tokens must not come again all the same.
    let after = token(&server, "later");
    drop(server);

    said(run(&["restore", &text("copy"), &text("restored")]));
    let again = refused(run(&["restore", &text("copy"), &text("restored")]));
    assert!(again.contains("a store is there already"), "{again}");
    let (old, new) = (inspected(&path("store")), inspected(&path("restored")));
    assert_eq!((count(&old, "holders"), count(&new, "holders")), (101, 100));
    assert_ne!(
        old.get("store_id"),
        new.get("store_id"),
        "another history is another store"
    );

    let server = Server::with(&format!("file:{}", text("restored")), "127.0.0.1:0");
    let held = said(server.run(&["unlock", "key 7", "--token", &before.get(7).expect("taken").to_string()]));
    assert!(held.contains("unlocked"), "{held}");
    let next = token(&server, "later");
    assert!(next > after, "{next} after {after}");
    drop(server);

    let mut bytes = fs::read(path("copy")).expect("read");
    let middle = bytes.len() / 2;
    bytes.truncate(middle);
    fs::write(path("half"), bytes).expect("written");
    let damaged = refused(run(&["restore", &text("half"), &text("nowhere")]));
    assert!(damaged.contains("is damaged"), "{damaged}");
    let nothing = refused(run(&["inspect", &text("nowhere")]));
    assert!(nothing.contains("there is no store"), "{nothing}");
    let memory = Server::start();
    let none = refused(memory.run(&["backup", &text("none")]));
    assert!(none.contains("the memory store has no backup"), "{none}");
}

#[test]
fn copies_that_are_made_at_once_are_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = |name: &str| dir.path().join(name).display().to_string();
    let server = Server::with(&format!("file:{}", text("store")), "127.0.0.1:0");
    for nth in 0..20 {
        token(&server, &format!("key {nth}"));
    }
    let names: Vec<String> = (0..6).map(|nth| format!("copy{nth}")).collect();
    let started = names.iter().map(|name| {
        let mut command = server.command(&["backup", &text(name)]);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts")
    });
    let running: Vec<_> = started.collect();
    for (child, name) in running.into_iter().zip(&names) {
        said(child.wait_with_output().expect("it ended"));
        let restored = format!("{name}-restored");
        said(run(&["restore", &text(name), &text(&restored)]));
        assert_eq!(count(&inspected(&dir.path().join(&restored)), "holders"), 20);
    }
}
