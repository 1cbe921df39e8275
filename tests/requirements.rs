//! Requirements and what shows them: docs/requirements.md is held to the list of rows below and to the tree.
//!
//! Each row names tests or commands, and what it names must be there; a row that nothing shows yet is listed in
//! [`NOT_SHOWN`], here and nowhere else. Some rows ask for what is absent: those are shown by tests of this file.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/requirements.md";

/// The rows that must be there, by group.
const LISTED: &[(&str, &[RangeInclusive<u32>])] = &[
    ("S0", &[1..=47]),
    ("S2", &[2..=12, 14..=14, 19..=19, 28..=33, 38..=41, 44..=44]),
    ("S3", &[2..=5, 7..=33, 37..=37, 43..=44, 49..=59]),
    ("S4", &[1..=1, 3..=4, 6..=15, 17..=21, 26..=29]),
    ("N", &[5..=5, 7..=7, 17..=17]),
];

/// Of those, the rows that nothing shows yet; the page says what is missing.
const NOT_SHOWN: &[&str] = &[];

/// A line of the page's tables.
#[derive(Debug)]
struct Row {
    id: String,
    /// Files and folders, or a page with one of its headings as `docs/page.md#heading`.
    places: Vec<String>,
    /// `path::test`, a script of the rules, or a command.
    shown_by: Vec<String>,
    /// What is missing, in words.
    open: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

/// `S0-1`, `N5`: a letter, a number, and for most a second one.
fn is_id(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.chars().all(|it| it.is_ascii_digit());
    text.strip_prefix(['S', 'N'])
        .is_some_and(|rest| rest.split('-').all(digits))
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows(page: &str) -> Vec<Row> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let (id, _, places, shown_by, open) = match cells.as_slice() {
            [id, what, places, shown_by, open, _] => (id, what, places, shown_by, open),
            _ => return None,
        };
        is_id(id).then(|| Row {
            id: (*id).to_owned(),
            places: quoted(places),
            shown_by: quoted(shown_by),
            open: (*open).to_owned(),
        })
    };
    page.lines().filter_map(row).collect()
}

fn listed() -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for (group, ranges) in LISTED {
        let dash = if group.len() > 1 { "-" } else { "" };
        let numbers = ranges.iter().flat_map(Clone::clone);
        ids.extend(numbers.map(|number| format!("{group}{dash}{number}")));
    }
    ids
}

/// A heading as links spell it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn place_is_there(place: &str) -> bool {
    let Some((page, heading)) = place.split_once('#') else {
        return root().join(place).exists();
    };
    let headings = |text: String| {
        let mut lines = text.lines();
        lines.any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#').trim()) == heading)
    };
    read(page).is_some_and(headings)
}

/// Whether the file has a test of this name: a function of Python, one of Rust with a test's attribute, or a trial.
fn has_test(path: &str, name: &str) -> bool {
    let Some(text) = read(path) else { return false };
    if path.ends_with(".py") {
        return text.contains(&format!("def {name}("));
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let function = format!("fn {name}(");
    let is_marked = |at: usize| {
        let above = lines.iter().take(at).rev();
        let mut above = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        above.any(|line| line.contains("test]") || line.contains("::test("))
    };
    let mut found = lines.iter().enumerate().filter(|(_, line)| line.contains(&function));
    found.any(|(at, _)| is_marked(at)) || text.contains(&format!("Trial::test(\"{name}\""))
}

/// Whether there is an example of this name in any package.
fn has_example(name: &str) -> bool {
    let packages = fs::read_dir(root()).into_iter().flatten().flatten();
    let has = |folder: &Path| {
        let examples = folder.join("examples");
        examples.join(format!("{name}.rs")).exists() || examples.join(name).join("main.rs").exists()
    };
    packages.map(|entry| entry.path()).any(|folder| has(&folder))
}

/// Whether `ticketlock` has this command.
fn has_command(name: &str) -> bool {
    let capital = |part: &str| -> String {
        let mut letters = part.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase())
            .into_iter()
            .chain(letters)
            .collect()
    };
    let variant: String = name.split('-').map(capital).collect();
    let is_it = |line: &str| {
        let rest = line.trim().strip_prefix(variant.as_str());
        rest.is_some_and(|rest| rest.starts_with('(') || rest.starts_with(" {"))
    };
    read("src/cli/args.rs").is_some_and(|text| text.lines().any(is_it))
}

/// Whether what a row names as its proof is in the tree.
fn is_there(named: &str) -> bool {
    if let Some((path, name)) = named.split_once("::") {
        return has_test(path, name);
    }
    match named.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["make", goal, ..] => read("Makefile").is_some_and(|text| {
            let start = format!("{goal}:");
            text.lines().any(|line| line.starts_with(&start))
        }),
        ["ticketlock", command, ..] => has_command(command),
        ["cargo", "run", .., "--example", name] => has_example(name),
        [script] => script.starts_with("core/tests/rules/scripts/") && root().join(script).is_file(),
        _ => false,
    }
}

/// What is wrong with the page: each complaint names its row.
fn complaints(page: &str) -> Vec<String> {
    let rows = rows(page);
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for row in &rows {
        let id = &row.id;
        if !seen.insert(id.clone()) {
            found.push(format!("{id} stands there twice"));
        }
        let gone = row.places.iter().filter(|place| !place_is_there(place));
        found.extend(gone.map(|place| format!("{id}: there is no `{place}`")));
        let gone = row.shown_by.iter().filter(|named| !is_there(named));
        found.extend(gone.map(|named| format!("{id}: nothing is called `{named}`")));
        if row.shown_by.is_empty() && row.open.is_empty() {
            found.push(format!("{id}: neither shown nor said to be open"));
        }
    }
    let listed = listed();
    found.extend(listed.difference(&seen).map(|id| format!("{id} has no line")));
    for row in rows.iter().filter(|row| listed.contains(&row.id)) {
        let id = row.id.as_str();
        match (row.shown_by.is_empty(), NOT_SHOWN.contains(&id)) {
            (true, false) => found.push(format!("{id} has no test and no command")),
            (false, true) => found.push(format!("{id} is shown: NOT_SHOWN is out of date")),
            _ => {}
        }
    }
    found
}

/// Goal: each row on the list has a line with a test or a command, and all that the page names is in the tree.
#[test]
fn every_row_names_what_shows_it() {
    let found = complaints(&read(PAGE).expect("the page"));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    let listed = listed();
    assert!(NOT_SHOWN.iter().all(|id| listed.contains(*id)), "{NOT_SHOWN:?}");
}

/// Goal: the check above finds a row that is missing, a proof that is not there, and what only looks like one.
#[test]
fn the_check_bites() {
    let page = read(PAGE).expect("the page");
    // What is wrong with the page itself is told by the test above.
    let already = complaints(&page);
    let found = |page: &str| -> Vec<String> {
        let found = complaints(page).into_iter();
        found.filter(|complaint| !already.contains(complaint)).collect()
    };
    let without = |id: &str| -> String {
        let start = format!("| {id} |");
        let lines = page.lines().filter(|line| !line.starts_with(&start));
        lines.map(|line| format!("{line}\n")).collect()
    };
    let line = |id: &str, shown_by: &str| format!("{}| {id} | planted | | {shown_by} | |\n", without(id));
    assert!(found(&line("S0-2", "`sim/tests/seeds.rs::no_promise_is_broken`")).is_empty());
    assert_eq!(found(&without("S0-2")), ["S0-2 has no line"]);
    assert_eq!(found(&without("N17")), ["N17 has no line"]);
    assert_eq!(
        found(&line("S3-20", "")),
        [
            "S3-20: neither shown nor said to be open",
            "S3-20 has no test and no command"
        ]
    );
    for named in [
        "tests/wire_lock.rs::a_test_that_nobody_wrote",
        "tests/nowhere.rs::wait_in_line_and_be_granted",
        // A function of that file that is no test.
        "tests/wire_lock.rs::until_waiters",
        "tests/python/test_stub.py::test_that_nobody_wrote",
        "core/tests/rules/scripts/q9_nothing.txt",
        "make nothing",
        "ticketlock nothing",
        "cargo run -p ticketlock-client --example nothing",
        "in words",
    ] {
        assert_eq!(
            found(&line("S0-2", &format!("`{named}`"))),
            [format!("S0-2: nothing is called `{named}`")]
        );
    }
    let twice = format!("{page}| S0-2 | planted | `docs/locks.md#nowhere` | `make test` | |\n");
    assert_eq!(
        found(&twice),
        ["S0-2 stands there twice", "S0-2: there is no `docs/locks.md#nowhere`"]
    );
}

/// Sources below a folder, or the one file.
fn sources(within: &str) -> Vec<(String, String)> {
    let path = root().join(within);
    if path.is_file() {
        return vec![(within.to_owned(), read(within).expect("readable"))];
    }
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{within}: {error}"));
    let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
    names.flat_map(|name| sources(&format!("{within}/{name}"))).collect()
}

/// Lines of code in these places that hold one of the words, comments left out.
fn lines_with(places: &[&str], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in places.iter().flat_map(|place| sources(place)) {
        let code = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"));
        let hits = code.filter(|(_, line)| words.iter().any(|word| line.to_lowercase().contains(word)));
        found.extend(hits.map(|(at, line)| format!("{path}:{}: {}", at + 1, line.trim())));
    }
    found
}

/// Goal: a grant depends on the state of the lock alone: no message, record or step of its way knows a reference count,
/// and the server never says that something is to be skipped.
#[test]
fn the_lock_path_knows_no_counts() {
    const COUNTS: &[&str] = &["refcount", "ref_count", "reference_count"];
    let api = ["lock", "service", "session"].map(|name| format!("proto/ticketlock/v1/{name}.proto"));
    let api = api.each_ref().map(String::as_str);
    let path = [
        "core/src",
        "src/service",
        "src/store",
        "src/grpc/lock.rs",
        "src/grpc/session.rs",
    ];
    assert_eq!(lines_with(&api, COUNTS), Vec::<String>::new());
    assert_eq!(lines_with(&api, &["skip"]), Vec::<String>::new());
    assert_eq!(lines_with(&path, COUNTS), Vec::<String>::new());
    assert!(
        !lines_with(&["refcount/src"], COUNTS).is_empty(),
        "the words are the right ones"
    );
}

/// Goal: what decides over counts touches no file, socket, clock or task, and needs no library that does.
#[test]
fn counts_are_decided_without_io() {
    let outside = [
        "std::fs",
        "std::io",
        "std::net",
        "std::time",
        "std::thread",
        "async ",
        "tokio",
    ];
    // Only what other storages run in their tests starts threads.
    let mut found = lines_with(&["refcount/src"], &outside);
    found.retain(|line| !line.starts_with("refcount/src/contract.rs:"));
    assert_eq!(found, Vec::<String>::new());
    let manifest = read("refcount/Cargo.toml").expect("the manifest");
    let table = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let needed: Vec<&str> = table
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(needed, ["thiserror.workspace = true"]);
}
