//! Goal: files refuse older tokens, whatever was there before, and whoever writes at the same time.

#![expect(clippy::expect_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use tempfile::TempDir;
use ticketlock_fencing::file::FencedFile;
use ticketlock_fencing::{Error, Fence};

fn exclusive(token: u64) -> Fence {
    Fence::exclusive(token).expect("valid")
}

/// A folder, and a file in it that is not there yet.
fn fresh() -> (TempDir, PathBuf, FencedFile) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let file = FencedFile::open(&path).expect("its folder is there");
    (folder, path, file)
}

#[track_caller]
fn check_refused(result: Result<(), Error>, seen: u64, given: u64) {
    let expected = Error::Stale { seen, given }.to_string();
    assert_eq!(result.expect_err("older").to_string(), expected);
}

/// Goal: what a holder reads cannot be changed any more by an older one, also where there was nothing to read.
#[test]
fn a_read_shows_the_fence() {
    let (_folder, path, file) = fresh();
    assert_eq!(file.read(exclusive(3)).expect("first"), b"");
    check_refused(file.write(exclusive(2), b"late"), 3, 2);
    assert!(!path.exists(), "a read makes no content");
    file.write(exclusive(3), b"three").expect("again");
    assert_eq!(file.read(exclusive(5)).expect("newer"), b"three");
    check_refused(file.write(exclusive(4), b"late"), 5, 4);
    check_refused(file.read(exclusive(4)).map(drop), 5, 4);
    assert_eq!(fs::read(&path).expect("plain content"), b"three");
}

/// Goal: holders whose tokens are valid together write beside each other, until a later one comes.
#[test]
fn shared_holders_write_beside_each_other() {
    let (_folder, _, file) = fresh();
    // The first has unlocked by the time of the third's grant.
    let [first, second, third] =
        [(5, 5), (6, 5), (7, 6)].map(|(token, lowest)| Fence::new(token, lowest).expect("valid"));
    for fence in [second, first, third, second] {
        file.write(fence, b"theirs").expect("valid");
    }
    check_refused(file.write(first, b"late"), 6, 5);
    file.read(exclusive(8)).expect("newer");
    check_refused(file.write(second, b"late"), 8, 6);
}

/// Goal: of holders that all write at once the newest wins, and no reader sees half of a write.
#[test]
fn the_newest_of_many_writers_wins() {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 10;
    let (_folder, path, _) = fresh();
    let content = |token: u64| format!("{token} ").repeat(20_000).into_bytes();
    for round in 0..ROUNDS {
        let first = round * WRITERS + 1;
        let together = Barrier::new(usize::try_from(WRITERS).expect("small"));
        std::thread::scope(|scope| {
            for token in first..first + WRITERS {
                let (path, together) = (&path, &together);
                scope.spawn(move || {
                    let file = FencedFile::open(path).expect("opened");
                    together.wait();
                    let written = file.write(exclusive(token), &content(token));
                    assert!(matches!(written, Ok(()) | Err(Error::Stale { .. })), "{written:?}");
                    let read = fs::read(path).expect("somebody wrote");
                    let by = String::from_utf8_lossy(&read).split(' ').next().map(str::parse);
                    let by = by.expect("a first word").expect("a token");
                    assert!(read == content(by), "content of more than one write");
                });
            }
        });
        let newest = first + WRITERS - 1;
        assert!(fs::read(&path).expect("written") == content(newest), "round {round}");
    }
}

/// Goal: content that was never guarded is not overwritten by accident, and is guarded once it is adopted.
#[test]
fn foreign_content_is_adopted_first() {
    let (_folder, path, file) = fresh();
    fs::write(&path, "older than the guard").expect("written");
    for refused in [file.write(exclusive(9), b"mine"), file.read(exclusive(9)).map(drop)] {
        assert!(matches!(refused, Err(Error::NoRecord { .. })), "{refused:?}");
    }
    file.adopt(exclusive(9)).expect("adopted");
    check_refused(file.write(exclusive(8), b"late"), 9, 8);
    check_refused(file.adopt(exclusive(8)), 9, 8);
    assert_eq!(file.read(exclusive(9)).expect("kept"), b"older than the guard");
}

/// Goal: a record that is lost or damaged is an error, never a fresh start.
#[test]
fn a_guard_does_not_forget() {
    let (_folder, path, file) = fresh();
    file.write(exclusive(44), b"newer").expect("first");
    let record = path.with_file_name("state.fence");
    let whole = fs::read(&record).expect("a record");
    for damaged in [
        &b""[..],
        b"ticketlock",
        whole.strip_suffix(b"\n").expect("a line"),
        &[whole.as_slice(), b"x"].concat(),
    ] {
        fs::write(&record, damaged).expect("damaged");
        let refused = file.write(exclusive(50), b"on top").expect_err("damaged");
        assert!(matches!(refused, Error::Corrupt { .. }), "{refused}");
    }
    fs::remove_file(&record).expect("lost");
    let refused = file.write(exclusive(50), b"on top").expect_err("lost");
    assert!(matches!(refused, Error::NoRecord { .. }), "{refused}");
    assert_eq!(fs::read(&path).expect("kept"), b"newer");
    fs::write(&record, whole).expect("restored");
    check_refused(file.write(exclusive(41), b"late"), 44, 41);
}

/// Goal: a file has one record, whatever name leads to it; its permissions outlive its content.
#[test]
fn names_and_permissions_are_kept() {
    let (folder, path, file) = fresh();
    file.write(exclusive(7), b"first").expect("first");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
    let link = folder.path().join("link");
    symlink(&path, &link).expect("linked");
    let linked = FencedFile::open(&link).expect("followed");
    check_refused(linked.write(exclusive(6), b"late"), 7, 6);
    linked.write(exclusive(8), b"second").expect("newer");
    check_refused(file.write(exclusive(7), b"late"), 8, 7);
    assert!(link.is_symlink());
    assert_eq!(fs::read(&path).expect("through the link"), b"second");
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

/// Goal: what cannot be guarded is said at once, with its path.
#[test]
fn a_path_that_is_none_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("nowhere/state");
    for path in [nowhere.as_path(), Path::new(""), Path::new("..")] {
        let error = FencedFile::open(path)
            .and_then(|file| file.write(exclusive(1), b""))
            .expect_err("no file");
        assert!(matches!(error, Error::Io { .. } | Error::NoRecord { .. }), "{error}");
    }
}
