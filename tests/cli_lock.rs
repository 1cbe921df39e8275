//! Goal: what the command line promises, shown with the real binary: exit codes, signals, loss, detached holds.

#![expect(clippy::expect_used, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod cli_server;

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use cli_server::{BINARY, Server, code};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Starts a lock with this script, which says at `READY` that it runs, its process id and its token; waits for that line.
fn start_held(server: &Server, args: &[&str], script: &str) -> (Child, BufReader<ChildStdout>, i32, u64) {
    let script = script.replace("READY", "echo ready $$ $TICKETLOCK_FENCING_TOKEN");
    let args = [&["lock"], args, &["--", "sh", "-c", &script]].concat();
    let mut child = server.command(&args).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let mut words = line.split_whitespace().skip(1);
    let pid = words.next().expect("a pid").parse().expect("a number");
    let token = words.next().expect("a token").parse().expect("a number");
    (child, stdout, pid, token)
}

/// A running `ticketlock watch`.
struct Events {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Events {
    /// Follows the events under a prefix; the snapshot of every shard has passed when this returns.
    fn follow(server: &Server, prefix: &str) -> Self {
        let mut command = server.command(&["watch", prefix, "-o", "json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut events = Self { child, lines };
        for _ in 0..32 {
            events.until("snapshot_end", "");
        }
        events
    }

    /// Waits for an event of this kind whose line contains `text`.
    fn until(&mut self, kind: &str, text: &str) {
        let kind = format!("\"event\":\"{kind}\"");
        loop {
            let line = self.lines.next().expect("the watch goes on").expect("utf-8");
            if line.contains(&kind) && line.contains(text) {
                return;
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end: nobody has the other end open any more, so every process of the command is gone.
fn until_gone(stdout: &mut BufReader<ChildStdout>) -> String {
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("readable");
    rest
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

#[test]
fn the_exit_status_is_the_commands() {
    let server = Server::start();
    let status = |script: &str| code(&server.run(&["lock", "k", "--", "sh", "-c", script]));
    assert_eq!(status("exit 0"), 0);
    assert_eq!(status("exit 7"), 7);
    assert_eq!(status("kill -TERM $$"), 143);
    assert_eq!(status("kill -KILL $$"), 137);
    assert_eq!(code(&server.run(&["lock", "k", "--", "/does/not/exist"])), 127);
    assert_eq!(code(&server.run(&["lock", "k", "--", "/"])), 126);
}

#[test]
fn the_command_sees_its_lock_and_its_standard_streams() {
    let server = Server::start();
    let script = "read word; echo $TICKETLOCK_KEY $TICKETLOCK_OWNER $word";
    let mut command = server.command(&["lock", "a/b", "--owner", "me", "--", "sh", "-c", script]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), b"hello\n").expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a/b me hello\n");
}

#[test]
fn what_is_not_acquired_has_a_code_of_its_own() {
    let server = Server::start();
    let (mut holder, _stdout, _, _) = start_held(&server, &["k"], "READY; exec sleep 1000");
    assert_eq!(code(&server.run(&["lock", "k", "--no-wait", "--", "true"])), 75);
    assert_eq!(code(&server.run(&["lock", "k", "--wait", "50ms", "--", "true"])), 75);
    assert_eq!(
        code(&server.run(&["lock", "k", "--no-wait", "-E", "9", "--", "true"])),
        9
    );
    assert_eq!(code(&server.run(&["lock", "k", "--no-wait", "--detach"])), 75);
    kill_process(pid_of(&holder), Signal::TERM).expect("it is there");
    assert_eq!(holder.wait().expect("it ends").code(), Some(143));
}

#[test]
fn shared_and_permit_locks_go_together() {
    let server = Server::start();
    let (mut reader, _reader_out, _, _) = start_held(&server, &["r", "--shared"], "READY; exec sleep 1000");
    assert_eq!(
        code(&server.run(&["lock", "r", "--shared", "--no-wait", "--", "true"])),
        0
    );
    assert_eq!(code(&server.run(&["lock", "r", "--no-wait", "--", "true"])), 75);
    let three = ["p", "--permits", "3", "--capacity", "4"];
    let (mut taker, _taker_out, _, _) = start_held(&server, &three, "READY; exec sleep 1000");
    let permits = |count| {
        let args = [
            "lock",
            "p",
            "--permits",
            count,
            "--capacity",
            "4",
            "--no-wait",
            "--",
            "true",
        ];
        code(&server.run(&args))
    };
    assert_eq!(permits("1"), 0);
    assert_eq!(permits("2"), 75);
    for child in [&mut reader, &mut taker] {
        kill_process(pid_of(child), Signal::TERM).expect("it is there");
        child.wait().expect("it ends");
    }
}

#[test]
fn nobody_there_is_unavailable() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|it| it.local_addr())
        .expect("a port");
    let endpoint = format!("http://{address}");
    for args in [
        &["lock", "k", "--", "true"][..],
        &["ls"],
        &["health"],
        &["unlock", "k", "--token", "1"],
    ] {
        let output = Command::new(BINARY)
            .args(args)
            .env("TICKETLOCK_ENDPOINT", &endpoint)
            .output()
            .expect("it runs");
        assert_eq!(code(&output), 69, "{args:?}");
    }
}

#[test]
fn a_signal_is_passed_on_to_the_group() {
    let server = Server::start();
    let script = "trap 'echo interrupted; exit 3' INT; READY; while :; do sleep 0.01; done";
    let (mut child, mut stdout, _, _) = start_held(&server, &["k"], script);
    kill_process(pid_of(&child), Signal::INT).expect("it is there");
    assert_eq!(child.wait().expect("it ends").code(), Some(3));
    assert_eq!(until_gone(&mut stdout), "interrupted\n");
}

#[test]
fn a_signal_while_waiting_leaves_the_line() {
    let server = Server::start();
    let mut events = Events::follow(&server, "k");
    let (mut holder, _stdout, _, _) = start_held(&server, &["k"], "READY; exec sleep 1000");
    let mut waiter = server
        .command(&["lock", "k", "--owner", "waiter", "--", "true"])
        .spawn()
        .expect("it starts");
    events.until("queued", "waiter");
    kill_process(pid_of(&waiter), Signal::TERM).expect("it is there");
    assert_eq!(waiter.wait().expect("it ends").code(), Some(143));
    events.until("left", "waiter");
    kill_process(pid_of(&holder), Signal::TERM).expect("it is there");
    holder.wait().expect("it ends");
}

#[test]
fn a_forced_unlock_ends_the_command_and_says_so() {
    let server = Server::start();
    let (child, mut stdout, _, token) = start_held(
        &server,
        &["k"],
        "trap 'echo asked; exit 0' TERM; READY; while :; do sleep 0.01; done",
    );
    let wrong = server.run(&["force-unlock", "k", "--token", "1", "--reason", "test"]);
    assert_eq!(code(&wrong), 75);
    let forced = server.run(&["force-unlock", "k", "--token", &token.to_string(), "--reason", "test"]);
    assert_eq!(code(&forced), 0);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 76);
    assert_eq!(until_gone(&mut stdout), "asked\n");
}

#[test]
fn a_command_that_ignores_the_loss_is_killed() {
    let server = Server::start();
    let script = "trap '' TERM; READY; while :; do sleep 0.01; done";
    let (mut child, mut stdout, _, token) = start_held(&server, &["k", "--grace", "100ms"], script);
    let forced = server.run(&["force-unlock", "k", "--token", &token.to_string(), "--reason", "test"]);
    assert_eq!(code(&forced), 0);
    assert_eq!(child.wait().expect("it ends").code(), Some(76));
    until_gone(&mut stdout);
}

#[test]
fn on_lost_ignore_lets_the_command_end() {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("go");
    let script = format!("READY; until [ -e '{}' ]; do sleep 0.01; done; exit 5", file.display());
    let (mut child, _stdout, _, token) = start_held(&server, &["k", "--on-lost", "ignore"], &script);
    assert_eq!(
        code(&server.run(&["force-unlock", "k", "--token", &token.to_string(), "--reason", "test"])),
        0
    );
    assert_eq!(code(&server.run(&["lock", "k", "--no-wait", "--", "true"])), 0);
    std::fs::write(file, "").expect("written");
    assert_eq!(child.wait().expect("it ends").code(), Some(5));
}

#[test]
fn a_dead_server_ends_the_command_before_its_lease() {
    let mut server = Server::start();
    let (mut child, mut stdout, _, _) = start_held(&server, &["k", "--ttl", "1s"], "READY; exec sleep 1000");
    server.child.kill().expect("it was there");
    assert_eq!(child.wait().expect("it ends").code(), Some(76));
    until_gone(&mut stdout);
}

#[test]
fn a_killed_ticketlock_takes_the_group_along_and_passes_the_lock_on() {
    let server = Server::start();
    // With a TTL of an hour, only the end of the connection can pass the lock on within the test's time.
    let args = ["k", "--ttl", "1h"];
    let (mut holder, mut stdout, pid, _) =
        start_held(&server, &args, "sleep 1000 & trap '' TERM INT HUP; READY; sleep 1000");
    let mut events = Events::follow(&server, "k");
    let mut waiter = server
        .command(&["lock", "k", "--owner", "next", "--", "true"])
        .spawn()
        .expect("it starts");
    events.until("queued", "next");
    holder.kill().expect("it was there");
    holder.wait().expect("it ends");
    assert!(waiter.wait().expect("it ends").success());
    until_gone(&mut stdout);
    let pid = Pid::from_raw(pid).expect("a pid");
    // Its parent is gone too, so whoever adopted it may take a moment to reap it; a zombie runs nothing.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    assert!(test_kill_process(pid).is_err() || stat.contains(") Z "), "{stat}");
}

#[test]
fn a_detached_lock_lives_by_its_lease() {
    let server = Server::start();
    let taken = server.run(&["lock", "k", "--detach", "--ttl", "1h", "-o", "json"]);
    assert_eq!(code(&taken), 0);
    let object: serde_json::Value = serde_json::from_slice(&taken.stdout).expect("json");
    let token = object.get("fencing_token").expect("a token").to_string();
    assert_eq!(code(&server.run(&["lock", "k", "--no-wait", "--", "true"])), 75);
    assert_eq!(code(&server.run(&["renew", "k", "--token", &token, "--ttl", "2h"])), 0);
    assert_eq!(code(&server.run(&["renew", "k", "--token", "1"])), 76);
    let other = ["unlock", "k", "--token", &token, "--owner", "somebody else"];
    assert_eq!(code(&server.run(&other)), 76);
    assert_eq!(code(&server.run(&["unlock", "k", "--token", &token])), 0);
    assert_eq!(code(&server.run(&["unlock", "k", "--token", &token])), 76);
    assert_eq!(code(&server.run(&["lock", "k", "--no-wait", "--", "true"])), 0);
}

#[test]
fn ls_and_show_name_holders_and_waiters_in_order() {
    let server = Server::start();
    let mut events = Events::follow(&server, "a/");
    let (mut holder, _stdout, _, token) = start_held(&server, &["a/1", "--owner", "first"], "READY; exec sleep 1000");
    let mut waiters = Vec::new();
    for owner in ["second", "third"] {
        waiters.push(
            server
                .command(&["lock", "a/1", "--owner", owner, "--", "true"])
                .spawn()
                .expect("it starts"),
        );
        events.until("queued", owner);
    }
    let shown = server.run(&["show", "a/1", "-o", "json"]);
    let info: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("json");
    assert_eq!(info.pointer("/holders/0/owner").expect("a holder"), "first");
    assert_eq!(info.pointer("/holders/0/fencing_token").expect("a token"), token);
    assert_eq!(info.pointer("/waiters/0/owner").expect("a waiter"), "second");
    assert_eq!(info.pointer("/waiters/1/owner").expect("a waiter"), "third");
    let listed = String::from_utf8(server.run(&["ls", "a/"]).stdout).expect("utf-8");
    assert!(listed.contains("a/1") && listed.contains("first"), "{listed}");
    assert!(!String::from_utf8_lossy(&server.run(&["ls", "b/"]).stdout).contains("a/1"));
    kill_process(pid_of(&holder), Signal::TERM).expect("it is there");
    holder.wait().expect("it ends");
    for mut waiter in waiters {
        assert!(waiter.wait().expect("it ends").success());
    }
}

#[test]
fn wrong_usage_is_told_apart() {
    let run = |args: &[&str]| Command::new(BINARY).args(args).output().expect("it runs");
    let check = |args: &[&str], words: &str| {
        let output = run(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 2, "{args:?}: {stderr}");
        assert!(stderr.contains(words), "{args:?}: {stderr}");
    };
    check(
        &["serve", "--store", "redis://localhost"],
        "the redis store is not there yet",
    );
    check(&["serve", "--store", "file:"], "file:DIR");
    check(&["serve", "--shards", "33"], "power of two from 1 to 1024");
    check(&["serve", "--keepalive-timeout", "0s"], "longer than 0");
    check(&["lock", "k"], "CMD");
    check(&["lock", "k", "--permits", "2", "--", "true"], "--capacity");
    check(&["lock", "k", "--ttl", "soon", "--", "true"], "30s");
    check(
        &["lock", "k", "--on-disconnect", "stay", "--", "true"],
        "grace=DURATION",
    );
}

#[test]
fn what_needs_no_server_works_without() {
    let run = |args: &[&str]| Command::new(BINARY).args(args).output().expect("it runs");
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(run(&["completions", shell]).stdout).expect("utf-8");
        assert!(script.contains("force-unlock"), "{shell}");
    }
    let help = String::from_utf8(run(&["lock", "--help"]).stdout).expect("utf-8");
    assert!(help.contains("Exit status") && help.contains("75"), "{help}");
    assert!(!String::from_utf8_lossy(&run(&["--help"]).stdout).contains("__guardian"));
}

#[test]
fn health_answers_by_its_code() {
    let server = Server::start();
    let output = server.run(&["health"]);
    assert_eq!(code(&output), 0);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("SERVING"));
}
