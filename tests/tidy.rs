//! Rules of the code base that no compiler holds: layers, the clock, form, and one list of metric names.
//!
//! Text is enough for this: comments are skipped, and every rule is shown to bite on a planted line.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const FILE_LINES_MAX: usize = 500;

/// In files under `within`, except those listed, none of `words` appears.
struct Ban {
    within: &'static str,
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const LAYERS: &[Ban] = &[
    Ban {
        within: "core/src/",
        except: &[],
        words: &[
            "std::",
            "tokio",
            "tonic",
            "prost",
            "tracing",
            "ticketlock_proto",
            "getrandom",
        ],
        why: "core is pure: no I/O, no clock, no tasks, no randomness",
    },
    Ban {
        within: "src/store/",
        except: &[],
        words: &[
            "tonic",
            "ticketlock_proto",
            "tokio_stream",
            "tokio::spawn",
            "tokio::task",
            "crate::grpc",
            "crate::service",
            "crate::cli",
            "crate::http",
        ],
        why: "a store knows the core's records, and nothing of gRPC, streams or tasks",
    },
    Ban {
        within: "src/service/",
        except: &[],
        words: &[
            "tonic",
            "prost",
            "ticketlock_proto",
            "crate::grpc",
            "crate::cli",
            "crate::http",
        ],
        why: "the service knows nothing of the wire",
    },
    Ban {
        within: "src/",
        except: &["src/grpc/"],
        words: &["ticketlock_proto"],
        why: "generated types stop at grpc",
    },
    Ban {
        within: "src/cli/",
        except: &["src/cli/serve.rs", "src/cli/store.rs"],
        words: &[
            "tonic",
            "ticketlock_core",
            "ticketlock::",
            "crate::service",
            "crate::grpc",
            "crate::store",
        ],
        why: "the command talks through the client crate alone",
    },
    Ban {
        within: "client-rs/src/",
        except: &[],
        words: &["ticketlock_core", "ticketlock::"],
        why: "the client depends on the API alone",
    },
];

const CLOCK_WORDS: &[&str] = &["Instant::now", "SystemTime::now", "clock_gettime", ".elapsed()"];

const CLOCKS: &[Ban] = &[
    Ban {
        within: "src/",
        except: &["src/service/clock.rs"],
        words: CLOCK_WORDS,
        why: "one file reads the clock",
    },
    Ban {
        within: "core/src/",
        except: &[],
        words: CLOCK_WORDS,
        why: "core gets the time as an argument",
    },
    Ban {
        within: "client-rs/src/",
        except: &["client-rs/src/clock.rs"],
        words: CLOCK_WORDS,
        why: "one file of the client reads the clock",
    },
];

const ANYWHERE: &[Ban] = &[
    Ban {
        within: "",
        except: &[],
        words: &[concat!("#[", "ignore")],
        why: "no test is skipped",
    },
    Ban {
        within: "",
        except: &[],
        words: &[concat!("#[", "allow(")],
        why: "`expect` with a reason, never `allow`",
    },
    Ban {
        within: "",
        except: &[],
        words: &[concat!("thread::", "sleep")],
        why: "nothing waits by sleeping",
    },
];

const IN_TESTS: &[Ban] = &[Ban {
    within: "",
    except: &[],
    words: &[
        concat!("time::", "sleep("),
        concat!("time::", "sleep_until("),
        concat!("time.", "sleep("),
    ],
    why: "a test waits for an event, never for a while",
}];

/// A source file: its path from the root of the project, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines that are code, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_code = |line: &&str| !line.trim_start().starts_with("//") && !line.trim_start().starts_with('#');
        let all_rust = |line: &&str| !line.trim_start().starts_with("//");
        let python = self.path.ends_with(".py");
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(move |(_, line)| if python { is_code(line) } else { all_rust(line) })
    }

    /// The part of it that is test code: all of a test file, else what stands from `#[cfg(test)]` on.
    fn tests(&self) -> Option<Self> {
        let text = if self.path.starts_with("tests/") || self.path.contains("/tests/") {
            self.text.clone()
        } else {
            let (_, after) = self.text.split_once("#[cfg(test)]")?;
            after.to_owned()
        };
        Some(Self {
            path: self.path.clone(),
            text,
        })
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files with this ending, in a fixed order, except what a build or a checkout makes.
fn sources(ending: &str) -> Vec<Source> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<Source>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("a readable entry").path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            if name.starts_with('.') || name.starts_with("target") || name == "node_modules" {
                continue;
            }
            if path.is_dir() {
                walk(&path, ending, found);
            } else if name.ends_with(ending) {
                let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let path = path
                    .strip_prefix(root())
                    .expect("under the root")
                    .to_string_lossy()
                    .into_owned();
                found.push(Source { path, text });
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), ending, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no file ends with {ending}");
    found
}

/// Whether `word` stands in `line` as a word of its own on its left side: `ticketlock::` is not in `my_ticketlock::`.
fn has_word(line: &str, word: &str) -> bool {
    let inner = |character: char| character.is_alphanumeric() || character == '_';
    let bounded = word.starts_with(inner);
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !bounded || !before.is_some_and(inner)
    })
}

fn violations(bans: &[Ban], source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for ban in bans {
        let excepted = ban.except.iter().any(|except| source.path.starts_with(except));
        if excepted || !source.path.starts_with(ban.within) {
            continue;
        }
        for (number, line) in source.code() {
            for word in ban.words.iter().filter(|word| has_word(line, word)) {
                found.push(format!("{}:{number}: `{word}`: {}", source.path, ban.why));
            }
        }
    }
    found
}

/// Every `select!` is biased: which branch wins must not be a matter of chance.
fn unbiased_selects(source: &Source) -> Vec<String> {
    let code: Vec<(usize, &str)> = source.code().collect();
    let mut found = Vec::new();
    for (index, (number, line)) in code.iter().enumerate() {
        let Some((_, rest)) = line.split_once(concat!("select", "! {")) else {
            continue;
        };
        let first = std::iter::once(rest)
            .chain(code.iter().skip(index + 1).map(|(_, line)| *line))
            .map(str::trim)
            .find(|line| !line.is_empty());
        if !first.is_some_and(|first| first.starts_with("biased;")) {
            found.push(format!("{}:{number}: a select without `biased;`", source.path));
        }
    }
    found
}

fn form(source: &Source) -> Vec<String> {
    let mut found = unbiased_selects(source);
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(format!("{}: {lines} lines, more than {FILE_LINES_MAX}", source.path));
    }
    if !source.text.starts_with("//!") && !source.text.starts_with("#!") {
        found.push(format!("{}: does not begin with `//!`", source.path));
    }
    let vague = ["util", "utils", "helper", "helpers", "common", "manager", "misc"];
    let stem = source.path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
    if stem.split('/').any(|part| vague.contains(&part)) {
        found.push(format!("{}: a name that says nothing", source.path));
    }
    found
}

fn check(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

fn planted(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

/// Goal: each layer knows only what it may.
#[test]
fn layers_know_only_what_they_may() {
    check(
        sources(".rs")
            .iter()
            .flat_map(|source| violations(LAYERS, source))
            .collect(),
    );
    assert!(read("core/src/lib.rs").contains("#![no_std]"), "core is no_std");
    let core = dependencies("core/Cargo.toml");
    assert!(
        core.iter()
            .all(|name| ["foldhash", "hashbrown", "slab", "smallvec"].contains(&name.as_str())),
        "core depends on {core:?}"
    );
    let client = dependencies("client-rs/Cargo.toml");
    for name in ["ticketlock", "ticketlock-core"] {
        assert!(!client.contains(name), "the client crate depends on {name}");
    }
}

/// Goal: time is read in one place per program.
#[test]
fn one_file_reads_the_clock() {
    check(
        sources(".rs")
            .iter()
            .flat_map(|source| violations(CLOCKS, source))
            .collect(),
    );
}

/// Goal: files are short, named, introduced; selects are biased; no test is skipped or sleeps.
#[test]
fn form_holds() {
    let rust = sources(".rs");
    let python = sources(".py");
    let mut found: Vec<String> = rust.iter().flat_map(form).collect();
    found.extend(rust.iter().flat_map(|source| violations(ANYWHERE, source)));
    let tests = rust.iter().chain(&python).filter_map(Source::tests);
    found.extend(tests.flat_map(|source| violations(IN_TESTS, &source)));
    check(found);
}

/// Goal: the rules above find what they forbid, and leave alone what they do not.
#[test]
fn rules_bite() {
    for (path, line) in [
        ("core/src/shard.rs", "use std::collections::HashMap;"),
        ("src/store/memory.rs", "use tonic::Status;"),
        ("src/service/shard.rs", "use crate::grpc::convert;"),
        ("src/http.rs", "use ticketlock_proto::v1;"),
        ("src/cli/lock.rs", "use ticketlock::service::Service;"),
        ("client-rs/src/guard.rs", "use ticketlock_core::Shard;"),
    ] {
        assert!(!violations(LAYERS, &planted(path, line)).is_empty(), "{path}: {line}");
    }
    let late = planted("src/grpc/server.rs", "let now = tokio::time::Instant::now();");
    assert_eq!(violations(CLOCKS, &late).len(), 1);
    let clock = planted("src/service/clock.rs", "let now = tokio::time::Instant::now();");
    assert_eq!(violations(CLOCKS, &clock).len(), 0);
    let comment = planted("src/grpc/server.rs", "    // Instant::now() would be wrong here");
    assert_eq!(violations(CLOCKS, &comment).len(), 0);
    let sleep = planted(
        "src/a.rs",
        concat!("#[cfg(test)]\ntokio::time::", "sleep(pause).await;"),
    );
    assert_eq!(violations(IN_TESTS, &sleep.tests().expect("test code")).len(), 1);
    let unbiased = planted("src/a.rs", concat!("//! a\ntokio::select", "! {\n    _ = a => {}\n}"));
    assert_eq!(form(&unbiased).len(), 1);
    let biased = planted(
        "src/a.rs",
        concat!("//! a\ntokio::select", "! {\n    biased;\n    _ = a => {}\n}"),
    );
    assert_eq!(form(&biased).len(), 0);
    let long = planted("src/common/mod.rs", &"//! a\n".repeat(FILE_LINES_MAX + 1));
    assert_eq!(form(&long).len(), 2);
}

/// Goal: code, docs/metrics.md and the dashboard speak of the same metrics.
#[test]
fn metric_names_are_in_step() {
    let code: BTreeSet<String> = words(&read("src/telemetry/names.rs"), '"').collect();
    let mut documented = BTreeSet::new();
    let mut not_shown = BTreeSet::new();
    for row in read("docs/metrics.md")
        .lines()
        .filter(|line| line.starts_with("| `ticketlock_"))
    {
        let name = words(row, '`').next().expect("a row names its metric");
        if row.contains("not shown") {
            not_shown.insert(name.clone());
        }
        documented.insert(name);
    }
    assert_eq!(code, documented, "left: src/telemetry/names.rs, right: docs/metrics.md");

    let shown = read("grafana/dashboards/ticketlock.json");
    let used: BTreeSet<String> = code.iter().filter(|name| mentions(&shown, name)).cloned().collect();
    let expected: BTreeSet<String> = code.difference(&not_shown).cloned().collect();
    assert_eq!(used, expected, "left: on the dashboard, right: documented as shown");

    let elsewhere = sources(".rs")
        .into_iter()
        .filter(|source| source.path.starts_with("src/") && source.path != "src/telemetry/names.rs");
    for source in elsewhere {
        let names: Vec<_> = words(&source.text, '"').filter(|name| code.contains(name)).collect();
        assert!(
            names.is_empty(),
            "{}: {names:?} belong in src/telemetry/names.rs",
            source.path
        );
    }
}

/// Goal: the reasons of errors and their page agree.
#[test]
fn error_reasons_are_in_step() {
    let status = read("src/grpc/status.rs");
    let (_, table) = status.split_once("reasons! {").expect("a table of reasons");
    let (table, _) = table.split_once("\n}").expect("its end");
    let code: BTreeSet<&str> = table.lines().filter_map(|row| row.split('"').nth(1)).collect();
    let page = read("docs/errors.md");
    let documented = page
        .lines()
        .filter_map(|row| row.strip_prefix("| `")?.split('`').next());
    assert_eq!(
        code,
        documented.collect(),
        "left: src/grpc/status.rs, right: docs/errors.md"
    );
}

/// Words that begin with `ticketlock_` between two marks.
fn words(text: &str, mark: char) -> impl Iterator<Item = String> {
    let plain = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    text.split(mark)
        .filter(|word| word.starts_with("ticketlock_"))
        .filter(plain)
        .map(str::to_owned)
}

/// Whether a query speaks of the metric, under its own name or under a histogram's.
fn mentions(text: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
    text.match_indices(name).any(|(at, _)| {
        let rest = text.get(at + name.len()..).unwrap_or_default();
        ["", "_bucket", "_sum", "_count"]
            .iter()
            .any(|part| rest.strip_prefix(part).is_some_and(ends))
    })
}

/// Names in the `[dependencies]` table of a manifest.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = read(manifest);
    let lines = text.lines().skip_while(|line| line.trim() != "[dependencies]").skip(1);
    let table = lines.take_while(|line| !line.starts_with('['));
    table
        .filter_map(|line| line.split_once(['=', '.']))
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}
