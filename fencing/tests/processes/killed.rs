//! A writer is killed before every system call that changes the disk, one after the other: whatever it left, the guard
//! holds.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::Signal;
use ticketlock_fencing::file::FencedFile;
use ticketlock_fencing::{Error, Fence};

const OLD: &[u8] = b"of token 41";
const NEW: &[u8] = b"of token 44";

/// All by which a write can leave something behind; which rename there is depends on the machine.
const CALLS: [&str; 7] = ["openat", "flock", "write", "fchmod", "fsync", "rename", "renameat"];

/// More calls of one kind than a write makes.
const CALLS_MAX: usize = 50;

/// The writer. Argument: the file.
pub fn write(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let file = FencedFile::open(arguments.next().expect("a file")).expect("opened");
    file.write(exclusive(44), NEW).expect("written");
    ExitCode::SUCCESS
}

/// Kills it everywhere, by `strace`, and looks at what is left each time.
pub fn story() {
    let mut left = BTreeSet::new();
    let mut kills = 0;
    for call in CALLS {
        for nth in 1.. {
            assert!(nth < CALLS_MAX, "{call} is never the last");
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("state");
            let file = FencedFile::open(&path).expect("opened");
            file.write(exclusive(41), OLD).expect("written");
            if !killed_before(call, nth, &path) {
                break;
            }
            kills += 1;
            left.insert(look(&file, &path));
        }
    }
    // Each stage of a write was met: nothing done, the record alone, both. And never the content alone.
    let stages = [(false, false), (false, true), (true, true)];
    assert_eq!(
        left,
        BTreeSet::from(stages),
        "(content, record) are new, after {kills} kills"
    );
}

/// Whether the writer got as far as its nth such call, and was killed before it.
fn killed_before(call: &str, nth: usize, path: &Path) -> bool {
    // Calls that concern the file, what is beside it, or its folder; not those by which a program starts.
    let concerned = ["", ".fence", ".fence.turn", ".fence.new"].map(|suffix| format!("{}{suffix}", path.display()));
    let folder = path.parent().expect("a folder").display().to_string();
    let concerned = concerned.into_iter().chain([folder]);
    let status = Command::new("strace")
        .args(["--quiet=all", "--output=/dev/null", "--follow-forks"])
        .args(concerned.map(|path| format!("--trace-path={path}")))
        .arg(format!("--inject=?{call}:signal=KILL:when={nth}"))
        .arg(std::env::current_exe().expect("this program"))
        .arg("write")
        .arg(path)
        .status()
        .expect("strace is installed by scripts/prepare.sh");
    // strace ends as its program did.
    let killed = status.signal() == Some(Signal::KILL.as_raw());
    assert!(killed || status.success(), "{call} {nth}: {status}");
    killed
}

/// Whether content and record are the new ones. Whichever they are, an older writer stays out where a newer was in, and
/// the next writer gets in and needs no repair.
fn look(file: &FencedFile, path: &Path) -> (bool, bool) {
    let content = fs::read(path).expect("content");
    assert!(
        content == OLD || content == NEW,
        "half of a write: {}",
        String::from_utf8_lossy(&content)
    );
    let record = match file.write(exclusive(41), OLD) {
        Ok(()) => false,
        Err(Error::Stale { seen: 44, given: 41 }) => true,
        Err(error) => panic!("{error}"),
    };
    file.write(exclusive(45), b"the next").expect("no repair is needed");
    assert_eq!(file.read(exclusive(45)).expect("read"), b"the next");
    (content == NEW, record)
}

fn exclusive(token: u64) -> Fence {
    Fence::exclusive(token).expect("valid")
}
