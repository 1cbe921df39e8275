//! What every storage promises, as a suite that any implementation runs in its own tests.
//!
//! ```
//! use std::sync::Arc;
//! use ticketlock_refcount::{MemoryStorage, contract};
//!
//! let storage = Arc::new(MemoryStorage::new());
//! contract::check_storage(|| Arc::clone(&storage));
//! ```

use std::sync::Barrier;
use std::thread;

use crate::{
    Ended, NODE_ID_BYTES_MAX, Operation, RESOURCE_ID_BYTES_MAX, RefCountManager, RefCountStorage, ReferenceCount,
    StorageError,
};

/// Threads that change the same records at once.
const RIVALS: usize = 8;
/// Records that each of them changes.
const RESOURCES: usize = 6;

/// Ids that file systems, shells and query languages like to confuse.
const AWKWARD: &[&str] = &[
    "a",
    "A",
    "a ",
    " a",
    "a.",
    ".a",
    ".",
    "..",
    "../a",
    "a/b",
    "a\\b",
    "a%2fb",
    "a%2Fb",
    "a_b",
    "a-b",
    "a:b",
    "sha256:00",
    "sha256%3a00",
    "n-a",
    "h-a",
    "lock",
    "null",
    "con",
    "\n",
    "a\nb",
    "\"",
    "'",
    "a'--",
    "*",
    "?",
    "ä",
    "a\u{308}",
    "日本",
];

/// Checks a storage. Each call of `open` answers another handle to the same storage, which is empty at first and stays
/// so at the end; a storage that several processes can share opens it anew each time.
///
/// # Panics
/// Where the storage breaks a promise, saying which.
pub fn check_storage<S: RefCountStorage>(open: impl Fn() -> S + Sync) {
    compare_and_set(&open());
    names_are_apart(&open());
    handles_agree(&open(), &open());
    one_of_many_creates(&open);
    no_update_is_lost(&open);
}

/// A record that these nodes refer to.
fn record(nodes: &[&str]) -> ReferenceCount {
    nodes.iter().copied().collect()
}

#[track_caller]
fn check(storage: &impl RefCountStorage, resource_id: &str, expected: &ReferenceCount) {
    match storage.get_ref_count(resource_id) {
        Ok(count) => assert_eq!(&count, expected, "the record of {resource_id:?}"),
        Err(error) => panic!("reading {resource_id:?}: {error}"),
    }
}

#[track_caller]
fn done(result: Result<(), StorageError>, what: &str) {
    if let Err(error) = result {
        panic!("{what}: {error}");
    }
}

#[track_caller]
fn conflict(result: Result<(), StorageError>, what: &str) {
    assert!(
        matches!(result, Err(StorageError::Conflict)),
        "{what}: {result:?}, not a conflict"
    );
}

/// A change is done exactly if the record is as expected.
fn compare_and_set(storage: &impl RefCountStorage) {
    let (none, one, two) = (record(&[]), record(&["x"]), record(&["x", "y"]));
    check(storage, "cas", &none);
    conflict(storage.set_ref_count("cas", &one, &two), "changing what is not there");
    conflict(storage.delete_ref_count("cas", &one), "removing what is not there");
    done(storage.set_ref_count("cas", &none, &one), "creating");
    check(storage, "cas", &one);
    conflict(storage.set_ref_count("cas", &none, &two), "creating what is there");
    conflict(
        storage.set_ref_count("cas", &record(&["y"]), &two),
        "changing what is otherwise",
    );
    check(storage, "cas", &one);
    done(storage.set_ref_count("cas", &one, &two), "changing");
    check(storage, "cas", &two);
    conflict(storage.delete_ref_count("cas", &one), "removing what is otherwise");
    check(storage, "cas", &two);
    done(storage.delete_ref_count("cas", &two), "removing");
    check(storage, "cas", &none);
    done(storage.set_ref_count("cas", &none, &two), "creating again");
    done(storage.set_ref_count("cas", &two, &none), "an empty record is none");
    check(storage, "cas", &none);
}

/// Every id has a record of its own, and every node id comes back as it was.
fn names_are_apart(storage: &impl RefCountStorage) {
    let longest = ["l", "m"].map(|letter| letter.repeat(RESOURCE_ID_BYTES_MAX));
    let ids: Vec<&str> = AWKWARD
        .iter()
        .copied()
        .chain(longest.iter().map(String::as_str))
        .collect();
    // As long as a node's id may be.
    let both = |id: &str| record(&[id.get(..NODE_ID_BYTES_MAX).unwrap_or(id), "second"]);
    for id in &ids {
        done(storage.set_ref_count(id, &record(&[]), &both(id)), id);
    }
    for id in &ids {
        check(storage, id, &both(id));
    }
    for id in &ids {
        done(storage.delete_ref_count(id, &both(id)), id);
        check(storage, id, &record(&[]));
    }
}

/// What one handle changed, the other sees.
fn handles_agree(first: &impl RefCountStorage, second: &impl RefCountStorage) {
    let (none, one) = (record(&[]), record(&["x"]));
    done(first.set_ref_count("shared", &none, &one), "creating");
    check(second, "shared", &one);
    conflict(
        second.set_ref_count("shared", &none, &one),
        "creating what the other handle created",
    );
    done(
        second.delete_ref_count("shared", &one),
        "removing what the other handle created",
    );
    check(first, "shared", &none);
}

/// Of many that create a record at once, one does.
fn one_of_many_creates<S: RefCountStorage>(open: &(impl Fn() -> S + Sync)) {
    let start = Barrier::new(RIVALS);
    let create = |name: usize| {
        let (storage, node) = (open(), name.to_string());
        start.wait();
        match storage.set_ref_count("race", &record(&[]), &record(&[&node])) {
            Ok(()) => Some(node),
            Err(StorageError::Conflict) => None,
            Err(error) => panic!("creating: {error}"),
        }
    };
    let winners: Vec<String> = thread::scope(|scope| {
        let create = &create;
        let rivals: Vec<_> = (0..RIVALS).map(|name| scope.spawn(move || create(name))).collect();
        rivals
            .into_iter()
            .filter_map(|it| it.join().expect("no rival panics"))
            .collect()
    });
    assert_eq!(winners.len(), 1, "who created it: {winners:?}");
    let created = winners.iter().collect();
    check(&open(), "race", &created);
    done(open().delete_ref_count("race", &created), "removing");
}

/// Many change the same records at once, and each change counts.
fn no_update_is_lost<S: RefCountStorage>(open: &(impl Fn() -> S + Sync)) {
    let start = Barrier::new(RIVALS);
    let id = |number: usize| format!("busy-{number}");
    let refer = |rival: usize| {
        let (counts, node) = (RefCountManager::new(open()), format!("node-{rival}"));
        start.wait();
        for number in 0..RESOURCES {
            let pulled = counts.update_ref_count(Operation::Pull, &id(number), &node, Ended::Success);
            assert!(pulled.expect("counted").contains(&node), "the reference just added");
        }
        // Every second one goes again, while others still come.
        if rival % 2 == 1 {
            for number in 0..RESOURCES {
                let left = counts.release(&id(number), &node).expect("released");
                assert!(!left.contains(&node), "the reference just given up");
            }
        }
    };
    thread::scope(|scope| {
        for rival in 0..RIVALS {
            let refer = &refer;
            scope.spawn(move || refer(rival));
        }
    });
    let stay: ReferenceCount = (0..RIVALS).step_by(2).map(|rival| format!("node-{rival}")).collect();
    for number in 0..RESOURCES {
        check(&open(), &id(number), &stay);
        done(open().delete_ref_count(&id(number), &stay), "removing");
    }
}
