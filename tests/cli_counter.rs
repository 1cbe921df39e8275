//! Goal: eight shells at once, each 25 times, increment a number in a file under a lock; none is lost, and the tokens
//! that the commands saw grow in the order of the increments.

#![expect(clippy::expect_used, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod cli_server;

use std::process::{Command, Stdio};

use cli_server::{BINARY, Server, code};

#[test]
fn eight_shells_lose_no_increment() {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("f"), "0\n").expect("written");
    let script = format!(
        r#"for i in $(seq 25); do
             "{BINARY}" lock counter -- sh -c \
               'n=$(cat f); echo $((n+1)) > f; echo $TICKETLOCK_FENCING_TOKEN >> tokens' || exit 1
           done"#
    );
    let shell = || {
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .current_dir(directory.path())
            .stdin(Stdio::null());
        command
            .env("TICKETLOCK_ENDPOINT", &server.endpoint)
            .spawn()
            .expect("a shell")
    };
    let shells: Vec<_> = (0..8).map(|_| shell()).collect();
    for mut shell in shells {
        assert!(shell.wait().expect("it ends").success());
    }
    let left = server.run(&["ls", "-o", "json"]);
    assert_eq!(
        (code(&left), left.stdout.len()),
        (0, 0),
        "nobody holds or waits any more"
    );
    let count = std::fs::read_to_string(directory.path().join("f")).expect("read");
    assert_eq!(count.trim(), "200");
    let tokens = std::fs::read_to_string(directory.path().join("tokens")).expect("read");
    let tokens: Vec<u64> = tokens.lines().map(|it| it.parse().expect("a number")).collect();
    assert_eq!(tokens.len(), 200);
    assert!(tokens.is_sorted_by(|earlier, later| earlier < later), "{tokens:?}");
}
