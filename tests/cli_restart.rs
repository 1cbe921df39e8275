//! Goal: who holds a lock through `ticketlock lock`, and who waits for one, survives a restart of the server, whether it
//! was killed, ended in good order or drained: the same token, the same place, and no command is stopped.

#![expect(clippy::expect_used, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod cli_server;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use cli_server::Server;

/// `ticketlock lock` of the key, with a command that writes its token to `out` and waits until `go` is there.
fn lock(server: &Server, out: &Path, go: &Path) -> Child {
    let script = r#"echo "$TICKETLOCK_FENCING_TOKEN" > "$0"; until [ -e "$1" ]; do sleep 0.05; done"#;
    let (out, go) = (out.display().to_string(), go.display().to_string());
    let mut command = server.command(&["lock", "key", "--", "sh", "-c", script, &out, &go]);
    command.stderr(Stdio::inherit()).spawn().expect("it starts")
}

/// What `ticketlock show` says: the tokens of holders, and the tickets of waiters that are connected, in order.
fn state(server: &Server) -> (Vec<u64>, Vec<u64>) {
    let shown = server.run(&["show", "key", "-o", "json"]);
    let state: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let numbers = |list: &str, name: &str| {
        let all = state.get(list).and_then(|list| list.as_array()).expect("a list");
        let connected = all.iter().filter(|it| it.get("connected").is_some_and(|it| it == true));
        connected
            .map(|it| it.get(name).and_then(serde_json::Value::as_u64).expect("a number"))
            .collect()
    };
    (numbers("holders", "fencing_token"), numbers("waiters", "ticket"))
}

/// Waits until one holds and two wait.
fn until_settled(server: &Server) -> (Vec<u64>, Vec<u64>) {
    loop {
        let state = state(server);
        if state.0.len() == 1 && state.1.len() == 2 {
            return state;
        }
    }
}

#[test]
fn commands_go_on_over_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = format!("file:{}", dir.path().join("store").display());
    let mut server = Server::with(&store, "127.0.0.1:0");
    let path = |name: &str| dir.path().join(name);
    let mut running = Vec::new();
    for nth in 0..3_usize {
        running.push(lock(&server, &path(&format!("out{nth}")), &path(&format!("go{nth}"))));
        // The order in line is the order in which they were started.
        loop {
            let (holders, waiters) = state(&server);
            if holders.len() + waiters.len() == nth + 1 {
                break;
            }
        }
    }
    let before = until_settled(&server);
    for restart in [
        Server::killed_and_started,
        Server::stopped_and_started,
        Server::drained_and_started,
        Server::killed_and_started,
    ] {
        server = restart(server, &store);
        assert_eq!(until_settled(&server), before, "the same token, the same places");
    }
    let mut tokens = Vec::new();
    for (nth, mut child) in running.into_iter().enumerate() {
        fs::write(path(&format!("go{nth}")), "").expect("written");
        let status = child.wait().expect("it ended");
        assert!(status.success(), "command {nth}: {status}");
        let token = fs::read_to_string(path(&format!("out{nth}"))).expect("it had its turn");
        tokens.push(token.trim().parse::<u64>().expect("a token"));
    }
    assert_eq!(
        tokens.first(),
        before.0.first(),
        "the holder's command saw the token that it kept"
    );
    assert!(tokens.is_sorted_by(|one, next| one < next), "in order: {tokens:?}");
}
