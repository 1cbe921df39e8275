//! Replays every file of every corpus, and mutations of it, through every target: what a fuzzer would run, on a stable
//! compiler, the same in each run. `FUZZ_SEED=n` looks elsewhere.

#![expect(clippy::print_stderr, reason = "a failure must name its input")]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

/// Mutations of each file.
const MUTATIONS: u32 = 2_000;
/// Bound: mutations may repeat and join, and stay short.
const BYTES_MAX: usize = 1_024;
/// Folders, and how many seeds each has.
const CORPORA: [&str; 4] = ["records", "requests", "configuration", "commands"];
const SEEDS: std::ops::RangeInclusive<usize> = 20..=40;

/// Goal: no input breaks the file store's decoders.
#[test]
fn records() {
    replay("records", ticketlock_fuzz::records);
}

/// Goal: no input breaks the edge.
#[test]
fn requests() {
    replay("requests", ticketlock_fuzz::requests);
}

/// Goal: no text breaks what reads it.
#[test]
fn configuration() {
    replay("configuration", ticketlock_fuzz::configuration);
}

/// Goal: no sequence of commands breaks a shard.
#[test]
fn commands() {
    replay("commands", ticketlock_fuzz::commands);
}

/// Goal: each target has its seeds, so that no replay passes for want of input.
#[test]
fn every_corpus_is_there() {
    for corpus in CORPORA {
        let count = files(corpus).len();
        assert!(SEEDS.contains(&count), "{corpus}: {count} seeds, expected {SEEDS:?}");
    }
}

fn replay(target: &str, run: fn(&[u8])) {
    let seed = seed();
    eprintln!("{target}: seed {seed}");
    let files: Vec<(PathBuf, Vec<u8>)> = CORPORA.iter().flat_map(|corpus| files(corpus)).collect();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for worker in 0..workers {
            let files = &files;
            scope.spawn(move || {
                for (path, bytes) in files.iter().skip(worker).step_by(workers) {
                    replay_file(target, run, path, bytes, seed, files);
                }
            });
        }
    });
}

/// Each file has a sequence of its own: which worker takes it, and what else is there, changes few of its mutations.
fn replay_file(target: &str, run: fn(&[u8]), path: &Path, bytes: &[u8], seed: u64, files: &[(PathBuf, Vec<u8>)]) {
    let name = path.to_string_lossy();
    let kin = files.iter().filter(|(other, _)| other.parent() == path.parent());
    let kin: Vec<&Vec<u8>> = kin.map(|(_, bytes)| bytes).collect();
    let mut random = Random(
        name.bytes()
            .fold(seed, |state, byte| Random(state ^ u64::from(byte)).next()),
    );
    for mutation in 0..=MUTATIONS {
        let bytes = if mutation == 0 {
            bytes.to_vec()
        } else {
            let other = kin.get(random.below(kin.len()));
            mutated(&mut random, bytes, other.map_or(&[], |other| other))
        };
        let trial = Trial {
            target,
            name: &name,
            mutation,
            seed,
            bytes: &bytes,
        };
        run(&bytes);
        drop(trial);
    }
}

/// Tells which input it was, if the target panics.
struct Trial<'a> {
    target: &'a str,
    name: &'a str,
    mutation: u32,
    seed: u64,
    bytes: &'a [u8],
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let hex: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let (target, name, mutation, seed) = (self.target, self.name, self.mutation, self.seed);
            eprintln!("{target}: {name}, mutation {mutation} of seed {seed}: {hex}");
        }
    }
}

/// Mostly one small change, so that most of what the seed says is still said.
fn mutated(random: &mut Random, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.next().trailing_zeros().min(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(16)).min(bytes.len());
        let one = bytes.get_mut(at);
        match (random.below(16), one) {
            (0..=4, Some(byte)) => *byte ^= 1 << random.below(8),
            (5 | 6, Some(byte)) => *byte = random.byte(),
            (7, Some(byte)) => *byte = byte.wrapping_add(1),
            (8, Some(byte)) => *byte = byte.wrapping_sub(1),
            (9, _) => bytes.insert(at, random.byte()),
            (10, _) => drop(bytes.drain(at..end)),
            (11, _) => {
                let part: Vec<u8> = bytes.iter().copied().take(end).skip(at).collect();
                bytes.splice(at..at, part);
            }
            (12, _) => bytes.truncate(at),
            (13, _) => {
                let extremes = [&[0][..], &[0x7f], &[0x80], &[0xff; 2], &[0xff; 9]];
                let extreme = extremes.get(random.below(extremes.len())).copied().unwrap_or_default();
                bytes.splice(at..end, extreme.iter().copied());
            }
            (14, _) => {
                bytes.truncate(at);
                bytes.extend(other.iter().skip(random.below(other.len() + 1)));
            }
            // Messages merge, and steps go on.
            _ => bytes.extend(other),
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

/// In the order of their names.
fn files(corpus: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new("corpus").join(corpus);
    let entries = fs::read_dir(root.join(&folder)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = folder.join(entry.expect("a readable entry").file_name());
            let bytes = fs::read(root.join(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, bytes)
        })
        .collect();
    files.sort();
    files
}

/// The same in each run unless the environment says otherwise.
fn seed() -> u64 {
    let given = std::env::var("FUZZ_SEED").ok();
    given.map_or(8476, |text| text.parse().expect("FUZZ_SEED is a number"))
}

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// From 0 to below `end`; the bias is far below what matters here.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }
}
