//! Counts in files: the contract, damage, and processes that are killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use ticketlock_content::FileStorage;
use ticketlock_content::refcount::{
    Ended, Operation, RefCountManager, RefCountStorage as _, ReferenceCount, StorageError, contract,
};

use crate::layout::Random;
use crate::world::entries;

/// Tells a process of this program that it is to count, where, and under which name.
const COUNTING: &str = "TICKETLOCK_TEST_COUNTING";
/// Times that processes are killed.
const ROUNDS: u64 = 25;
/// Resources that they count.
const RESOURCES: u64 = 3;

/// Goal: files keep the contract, with a storage opened anew for each handle, and leave nothing behind.
#[test]
fn files_keep_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    contract::check_storage(|| FileStorage::open(folder.path()).expect("it opens"));
    assert_eq!(entries(folder.path()), ["lock"]);
}

/// Goal: a file that is not what was written is an error, never a count; a change of it is refused, too.
#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = FileStorage::open(folder.path()).expect("it opens");
    let count: ReferenceCount = ["a", "b"].into_iter().collect();
    storage.set_ref_count("r", &ReferenceCount::new(), &count).expect("set");
    let path = folder.path().join("n-r");
    let whole = fs::read(&path).expect("read");
    let check = |bytes: &[u8], damage: &str| {
        fs::write(&path, bytes).expect("written");
        let read = storage.get_ref_count("r");
        let failed = matches!(read, Err(StorageError::Corrupt { .. } | StorageError::Failed { .. }));
        assert!(failed, "{damage}: {read:?}");
        assert!(
            storage.set_ref_count("r", &count, &count.with("c")).is_err(),
            "{damage}: changed"
        );
    };
    for length in 0..whole.len() {
        check(whole.get(..length).expect("shorter"), &format!("cut to {length} bytes"));
    }
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1;
        }
        check(&bytes, &format!("byte {place} changed"));
    }
    storage
        .set_ref_count("other", &ReferenceCount::new(), &count)
        .expect("set");
    check(
        &fs::read(folder.path().join("n-other")).expect("read"),
        "another resource's",
    );
    fs::write(&path, &whole).expect("written");
    assert_eq!(storage.get_ref_count("r").expect("whole again"), count);
}

/// What a process does as its `number`-th change: whether it refers or gives up, to what, under which node id.
fn change(name: &str, number: u64) -> (bool, String, String) {
    let (index, gives_up) = (number / 2, number % 2 == 1 && (number / 2).is_multiple_of(3));
    (!gives_up, format!("r{}", index % RESOURCES), format!("{name}-{index}"))
}

/// Counts until it is killed, and says the number of each change once it is acknowledged.
fn count(folder: &str, name: &str) {
    let counts = RefCountManager::new(FileStorage::open(folder).expect("it opens"));
    let mut out = std::io::stdout();
    writeln!(out).expect("said");
    for number in 0.. {
        let (refers, resource, node) = change(name, number);
        if refers {
            counts
                .update_ref_count(Operation::Pull, &resource, &node, Ended::Success)
                .expect("counted");
        } else {
            counts.release(&resource, &node).expect("released");
        }
        writeln!(out, "changed {number}").expect("said");
    }
}

/// Starts this test as another process, which counts.
fn start(folder: &Path, name: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "counts::acknowledged_counts_survive_kills", "--nocapture"])
        .env(COUNTING, format!("{}\n{name}", folder.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    (child, lines)
}

/// The next change that was acknowledged; `None`: its process has ended.
fn next(lines: &mut BufReader<ChildStdout>) -> Option<u64> {
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).expect("read") == 0 {
            return None;
        }
        // A line that was cut is no word.
        if let Some(number) = line.strip_prefix("changed ").and_then(|it| it.strip_suffix('\n')) {
            return Some(number.parse().expect("a number"));
        }
    }
}

/// The records after the first `changes` of a process.
fn expected(name: &str, changes: u64) -> BTreeMap<String, ReferenceCount> {
    let mut records = BTreeMap::<String, ReferenceCount>::new();
    for number in 0..changes {
        let (refers, resource, node) = change(name, number);
        let record = records.entry(resource).or_default();
        *record = if refers {
            record.with(&node)
        } else {
            record.without(&node)
        };
    }
    records.retain(|_, record| !record.is_empty());
    records
}

/// What is kept of a process' references.
fn kept(storage: &FileStorage, name: &str) -> BTreeMap<String, ReferenceCount> {
    let of = |id: &String| {
        let record = storage.get_ref_count(id).expect("whole");
        record
            .nodes()
            .filter(|node| node.starts_with(&format!("{name}-")))
            .collect::<ReferenceCount>()
    };
    let records = (0..RESOURCES)
        .map(|it| format!("r{it}"))
        .map(|id| (id.clone(), of(&id)));
    records.filter(|(_, record)| !record.is_empty()).collect()
}

/// Goal: two processes count in the same files and are killed at random moments, again and again: each change that was
/// acknowledged is there, the one under way is there or not, and nothing is half-written.
#[test]
fn acknowledged_counts_survive_kills() {
    if let Ok(counting) = std::env::var(COUNTING) {
        let (folder, name) = counting.split_once('\n').expect("a folder and a name");
        return count(folder, name);
    }
    let mut random = Random::new("counts");
    let folder = tempfile::tempdir().expect("a folder");
    let storage = FileStorage::open(folder.path()).expect("it opens");
    let mut under_way = 0;
    for round in 0..ROUNDS {
        let names = [format!("{round}a"), format!("{round}b")];
        let [(mut first, mut lines), (mut second, mut others)] =
            names.each_ref().map(|name| start(folder.path(), name));
        let until = random.below(30);
        let mut last = next(&mut lines).expect("it counts");
        let begun = Instant::now();
        while last < until {
            last = next(&mut lines).expect("it counts");
        }
        // At any point of a change, and not always as soon as one was told: within the time of three.
        let each = begun.elapsed() / u32::try_from(last.max(1)).expect("few");
        let moment = Instant::now() + each * u32::try_from(random.below(3_000)).expect("small") / 1_000;
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        first.kill().expect("killed");
        second.kill().expect("killed");
        for (name, lines) in names.iter().zip([&mut lines, &mut others]) {
            let mut changes = if *name == names[0] { last + 1 } else { 0 };
            while let Some(number) = next(lines) {
                changes = number + 1;
            }
            let kept = kept(&storage, name);
            let (told, more) = (expected(name, changes), expected(name, changes + 1));
            assert!(kept == told || kept == more, "{name}: {kept:?}, told {told:?}");
            under_way += u64::from(kept != told);
        }
        first.wait().expect("ended");
        second.wait().expect("ended");
    }
    // A process that died in its turn holds up nobody.
    let counts = RefCountManager::new(storage);
    counts
        .join("r0", "last")
        .expect("changed")
        .expect("somebody refers to it");
    let told = format!(
        "{} of {} kills met a change that was done and not told\n",
        under_way,
        2 * ROUNDS
    );
    std::io::stderr().write_all(told.as_bytes()).expect("said");
}
