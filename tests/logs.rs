//! Goal: the server's log can be read by a program: which store it serves and in whose name a store speaks, and one line
//! for each change of a lock, with key, owner, token, wait and hold.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_ticketlock");

/// A server that logs everything, as JSON, and what it has said so far.
struct Logged {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStderr>>,
    endpoint: String,
}

impl Logged {
    fn start(store: &str) -> Self {
        let mut child = Command::new(BINARY)
            .args([
                "serve",
                "--store",
                store,
                "--listen",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
            ])
            .args(["--log", "debug", "--log-format", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let line = stdout.lines().next().expect("a line").expect("text");
        let address = line.split_whitespace().find_map(|it| it.strip_prefix("grpc="));
        let endpoint = format!("http://{}", address.expect("an address"));
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { child, lines, endpoint }
    }

    /// The next line whose message begins so.
    fn until(&mut self, message: &str) -> Value {
        let objects = self.lines.by_ref().map(|line| -> Value {
            let line = line.expect("text");
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
        });
        let mut said = objects.filter(|line| line["message"].as_str().is_some_and(|said| said.starts_with(message)));
        said.next().unwrap_or_else(|| panic!("it never said {message:?}"))
    }

    fn run(&self, args: &[&str]) {
        let status = Command::new(BINARY)
            .args(args)
            .env("TICKETLOCK_ENDPOINT", &self.endpoint)
            .status();
        assert!(status.expect("it runs").success(), "{args:?}");
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// Goal: the server says which store it serves, and what a store itself says stands under its own name.
#[test]
fn a_store_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    for (store, name) in [
        ("memory:".to_owned(), "memory"),
        (format!("file:{}", dir.path().display()), "file"),
    ] {
        let mut server = Logged::start(&store);
        let serving = server.until("serving");
        assert_eq!((&serving["store"], &serving["level"]), (&name.into(), &"INFO".into()));
        assert!(serving["durability"].is_string(), "{serving}");
        drop(server);
    }
    std::fs::write(dir.path().join("progress"), "no progress").expect("written");
    let mut server = Logged::start(&format!("file:{}", dir.path().display()));
    let own = server.until("the file `progress` could not be read");
    assert_eq!(
        (&own["target"], &own["level"]),
        (&"ticketlock::store::file".into(), &"WARN".into())
    );
}

/// Goal: a change of a lock is one line, and all of them together tell its story.
#[test]
fn a_change_is_one_line() {
    let mut server = Logged::start("memory:");
    server.run(&["lock", "k", "--owner", "me", "--", "true"]);
    let granted = server.until("lock acquired");
    let released = server.until("lock released");
    for line in [&granted, &released] {
        assert_eq!(
            (&line["key"], &line["owner"], &line["mode"]),
            (&"k".into(), &"me".into(), &"exclusive".into())
        );
        assert!(line["token"].as_u64().is_some_and(|token| token > 0), "{line}");
        assert_eq!(line["token"], granted["token"]);
    }
    assert!(
        granted["waited_ms"].is_u64() && released["held_ms"].is_u64(),
        "{granted}\n{released}"
    );
    kill_process(Pid::from_child(&server.child), Signal::TERM).expect("it runs");
    let more = server.lines.by_ref().map(|line| line.expect("text"));
    assert_eq!(
        more.filter(|line| line.contains("lock acquired") || line.contains("lock released"))
            .count(),
        0
    );
}
