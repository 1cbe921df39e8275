//! Goal: an application outside the workspace builds from the client crate alone, works against a real server, and
//! takes over few dependencies and no configuration format that it did not ask for.

#![expect(clippy::expect_used, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod cli_server;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cli_server::Server;

/// Bound: packages that the client crate costs an application, itself included.
const PACKAGES_MAX: usize = 120;
/// Of the features that are off by default.
const FORMATS: &[&str] = &["serde", "serde_json", "serde-saphyr", "toml", "humantime"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `cargo` in a folder, with a target folder of its own: without the network first, then with it.
fn cargo(folder: &Path, args: &[&str]) -> Output {
    let run = |network: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(folder).args(args).args(network);
        command.env("CARGO_TARGET_DIR", target()).output().expect("cargo runs")
    };
    let offline = run(&["--offline"]);
    if offline.status.success() {
        return offline;
    }
    let online = run(&[]);
    let (first, then) = (&offline.stderr, &online.stderr);
    let (first, then) = (String::from_utf8_lossy(first), String::from_utf8_lossy(then));
    assert!(online.status.success(), "offline:\n{first}\nonline:\n{then}");
    online
}

/// Under the folder of this build, so that nothing is written into the sources.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    // TARGET/PROFILE/deps/TEST
    test.ancestors().nth(3).expect("a target folder").join("outside")
}

#[test]
fn an_application_outside_the_workspace_works() {
    let folder = root().join("tests/outside");
    cargo(&folder, &["build", "--locked", "--quiet"]);
    let server = Server::start();
    let program = target().join("debug/outside");
    let output = Command::new(program).arg(&server.endpoint).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let expected = ["guards", "locker", "lock objects", "a backend of its own", "closed"];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

/// The names in what `cargo tree` prints of the client crate in that application.
fn packages(more: &[&str]) -> BTreeSet<String> {
    let args = [
        "tree",
        "--locked",
        "-p",
        "ticketlock-client",
        "-e",
        "normal",
        "--prefix",
        "none",
    ];
    let output = cargo(&root(), &[&args, more].concat());
    let text = String::from_utf8(output.stdout).expect("utf-8");
    let lines = text.lines().map(|line| line.trim_end_matches(" (*)"));
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn formats(packages: &BTreeSet<String>) -> Vec<&str> {
    let names = packages.iter().filter_map(|line| line.split(' ').next());
    names.filter(|name| FORMATS.contains(name)).collect()
}

#[test]
fn the_client_costs_few_packages_and_no_format() {
    let lean = packages(&[]);
    assert!(lean.iter().any(|line| line.starts_with("tonic ")), "{lean:#?}");
    assert!(lean.len() <= PACKAGES_MAX, "{} packages: {lean:#?}", lean.len());
    assert_eq!(formats(&lean), [""; 0]);
    // The same look finds them where they are asked for.
    assert_eq!(
        formats(&packages(&["--features", "json,yaml,toml"])).len(),
        FORMATS.len()
    );
}
