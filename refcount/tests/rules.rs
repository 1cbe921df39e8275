//! What is decided, rule by rule, and against a naive model over random stories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use ticketlock_refcount::{
    Ended, Error, MemoryStorage, NODE_ID_BYTES_MAX, Operation, REFERENCES_MAX, RESOURCE_ID_BYTES_MAX, RefCountManager,
    RefCountStorage, ReferenceCount, SkipReason, StorageError,
};

/// A manager over memory, with these references.
fn counts(references: &[(&str, &str)]) -> RefCountManager<MemoryStorage> {
    let counts = RefCountManager::new(MemoryStorage::new());
    for (resource, node) in references {
        counts
            .update_ref_count(Operation::Pull, resource, node, Ended::Success)
            .expect("counted");
    }
    counts
}

fn count(counts: &RefCountManager<impl RefCountStorage>, resource: &str) -> usize {
    counts.get_ref_count(resource).expect("read").count()
}

/// Goal: a pull is skipped exactly while somebody refers to the resource, and the reason says how many.
#[test]
fn a_pull_is_skipped_while_somebody_refers_to_it() {
    let counts = counts(&[("r", "a"), ("r", "b"), ("other", "a")]);
    let skip = |operation, resource| counts.should_skip_operation(operation, resource).expect("decided");
    assert_eq!(skip(Operation::Pull, "free"), None);
    let reason = skip(Operation::Pull, "r").expect("a reason");
    assert_eq!(reason, SkipReason { references: 2 });
    assert_eq!(reason.to_string(), "2 nodes refer to it already");
    assert_eq!(skip(Operation::Update, "r"), None, "only pulls are skipped");
    assert_eq!(skip(Operation::Delete, "r"), None, "only pulls are skipped");
}

/// Goal: an update of what is referred to is refused exactly if the option is on, in words.
#[test]
fn an_update_may_need_that_nobody_refers_to_it() {
    let strict = counts(&[("r", "a")]).update_requires_no_ref(true);
    let refused = strict
        .can_perform_operation(Operation::Update, "r", "a")
        .expect_err("refused");
    assert!(matches!(refused, Error::Refused(_)), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        "update refused: 1 refer to it (such as \"a\"), the limit is 0"
    );
    strict
        .can_perform_operation(Operation::Update, "free", "a")
        .expect("nobody refers to it");
    let lax = counts(&[("r", "a"), ("r", "b")]);
    lax.can_perform_operation(Operation::Update, "r", "c")
        .expect("the option is off");
}

/// Goal: what others refer to is not deleted; the last one that refers to it may, and the record goes.
#[test]
fn the_last_one_deletes() {
    let counts = counts(&[("r", "a"), ("r", "b")]);
    let refused = counts
        .can_perform_operation(Operation::Delete, "r", "a")
        .expect_err("b refers to it");
    assert!(refused.to_string().contains("\"b\""), "{refused}");
    let update = |node| counts.update_ref_count(Operation::Delete, "r", node, Ended::Success);
    assert!(
        matches!(update("a"), Err(Error::Refused(_))),
        "decided again in the same step"
    );
    assert_eq!(count(&counts, "r"), 2, "nothing has changed");
    assert_eq!(counts.release("r", "b").expect("released").count(), 1);
    counts
        .can_perform_operation(Operation::Delete, "r", "a")
        .expect("only a is left");
    assert!(update("a").expect("deleted").is_empty());
    assert_eq!(count(&counts, "r"), 0);
    counts
        .can_perform_operation(Operation::Delete, "r", "a")
        .expect("nothing is in the way of nothing");
}

/// Goal: what failed changes no count; what is repeated counts once.
#[test]
fn failures_and_repeats_change_nothing() {
    let counts = counts(&[("r", "a")]);
    for operation in [Operation::Pull, Operation::Update, Operation::Delete] {
        for node in ["a", "b"] {
            let after = counts
                .update_ref_count(operation, "r", node, Ended::Failure)
                .expect("nothing to do");
            assert_eq!(after.nodes().collect::<Vec<_>>(), ["a"], "{operation} by {node} failed");
        }
    }
    counts
        .update_ref_count(Operation::Update, "r", "b", Ended::Success)
        .expect("counted");
    counts
        .update_ref_count(Operation::Pull, "r", "a", Ended::Success)
        .expect("counted");
    assert_eq!(count(&counts, "r"), 1);
}

/// Goal: joining adds a reference only while there is one.
#[test]
fn joining_needs_somebody_to_join() {
    let counts = counts(&[("r", "a")]);
    let joined = counts.join("r", "b").expect("joined").expect("a refers to it");
    assert_eq!(joined.nodes().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(counts.join("free", "b").expect("decided"), None);
    assert_eq!(count(&counts, "free"), 0, "nothing was added");
}

/// Goal: a name or a number beyond its limit is refused, and the refusal says which and how much.
#[test]
fn limits_are_named() {
    let counts = counts(&[]);
    let long = |length: usize| "x".repeat(length);
    let pull = |resource: &str, node: &str| counts.update_ref_count(Operation::Pull, resource, node, Ended::Success);
    pull(&long(RESOURCE_ID_BYTES_MAX), &long(NODE_ID_BYTES_MAX)).expect("at its limit");
    let words = |result: Result<ReferenceCount, Error>| result.expect_err("refused").to_string();
    assert_eq!(
        words(pull(&long(RESOURCE_ID_BYTES_MAX + 1), "a")),
        "resource_id: 4097 bytes, expected 1 to 4096"
    );
    assert_eq!(
        words(pull("r", &long(NODE_ID_BYTES_MAX + 1))),
        "node_id: 257 bytes, expected 1 to 256"
    );
    assert_eq!(words(pull("", "a")), "resource_id: 0 bytes, expected 1 to 4096");
    let many: ReferenceCount = (0..REFERENCES_MAX).map(|it| it.to_string()).collect();
    let storage = MemoryStorage::new();
    storage.set_ref_count("r", &ReferenceCount::new(), &many).expect("set");
    let counts = RefCountManager::new(storage);
    assert!(matches!(counts.join("r", "one more"), Err(Error::Full { .. })));
    counts.join("r", "0").expect("it is one of them already");
}

/// Goal: an update that meets another one's is made again from what is there then; nothing is lost.
#[test]
fn a_change_in_between_is_not_lost() {
    /// Before the first change, `other` gets in between.
    struct Rival {
        storage: MemoryStorage,
        came: AtomicBool,
    }

    impl Rival {
        fn come(&self, id: &str) {
            if !self.came.swap(true, Ordering::SeqCst) {
                let before = self.storage.get_ref_count(id).expect("read");
                self.storage
                    .set_ref_count(id, &before, &before.with("other"))
                    .expect("nobody else is here");
            }
        }
    }

    impl RefCountStorage for Rival {
        fn get_ref_count(&self, id: &str) -> Result<ReferenceCount, StorageError> {
            self.storage.get_ref_count(id)
        }

        fn set_ref_count(&self, id: &str, old: &ReferenceCount, new: &ReferenceCount) -> Result<(), StorageError> {
            self.come(id);
            self.storage.set_ref_count(id, old, new)
        }

        fn delete_ref_count(&self, id: &str, old: &ReferenceCount) -> Result<(), StorageError> {
            self.come(id);
            self.storage.delete_ref_count(id, old)
        }
    }

    let rival = |nodes: &[&str]| {
        let storage = MemoryStorage::new();
        let nodes = nodes.iter().copied().collect();
        storage.set_ref_count("r", &ReferenceCount::new(), &nodes).expect("set");
        RefCountManager::new(Rival {
            storage,
            came: AtomicBool::new(false),
        })
    };
    let counts = rival(&[]);
    let pulled = counts
        .update_ref_count(Operation::Pull, "r", "a", Ended::Success)
        .expect("counted");
    assert_eq!(pulled.nodes().collect::<Vec<_>>(), ["a", "other"]);
    let counts = rival(&["a"]);
    let deleted = counts.update_ref_count(Operation::Delete, "r", "a", Ended::Success);
    assert!(
        matches!(deleted, Err(Error::Refused(_))),
        "the other's reference is respected: {deleted:?}"
    );
    assert_eq!(counts.get_ref_count("r").expect("read").count(), 2);
}

/// Goal: a storage that does nothing but conflict is given up after a bounded number of tries.
#[test]
fn endless_conflicts_end() {
    struct Busy;

    impl RefCountStorage for Busy {
        fn get_ref_count(&self, _: &str) -> Result<ReferenceCount, StorageError> {
            Ok(ReferenceCount::new())
        }

        fn set_ref_count(&self, _: &str, _: &ReferenceCount, _: &ReferenceCount) -> Result<(), StorageError> {
            Err(StorageError::Conflict)
        }

        fn delete_ref_count(&self, _: &str, _: &ReferenceCount) -> Result<(), StorageError> {
            Err(StorageError::Conflict)
        }
    }

    let pulled = RefCountManager::new(Busy).update_ref_count(Operation::Pull, "r", "a", Ended::Success);
    assert!(matches!(pulled, Err(Error::Contended { limit: 1_000 })), "{pulled:?}");
}

/// What nodes do.
#[derive(Clone, Debug)]
enum Step {
    Update(Operation, Ended),
    Join,
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let operation = prop_oneof![Just(Operation::Pull), Just(Operation::Update), Just(Operation::Delete)];
    let ended = prop_oneof![3 => Just(Ended::Success), 1 => Just(Ended::Failure)];
    prop_oneof![
        4 => (operation, ended).prop_map(|(operation, ended)| Step::Update(operation, ended)),
        1 => Just(Step::Join),
        1 => Just(Step::Release),
    ]
}

type Model = BTreeMap<String, BTreeSet<String>>;

/// What the step should do to the model, written the long way.
fn expect(model: &mut Model, step: &Step, resource: &str, node: &str) -> bool {
    let nodes = model.entry(resource.to_owned()).or_default();
    match step {
        Step::Update(Operation::Delete, Ended::Success) if nodes.iter().any(|it| it != node) => return false,
        Step::Update(Operation::Delete, Ended::Success) => nodes.clear(),
        Step::Update(Operation::Pull, Ended::Success) => drop(nodes.insert(node.to_owned())),
        Step::Join if nodes.is_empty() => {}
        Step::Join => drop(nodes.insert(node.to_owned())),
        Step::Release => drop(nodes.remove(node)),
        Step::Update(..) => {}
    }
    true
}

proptest! {
    /// Goal: after any story, counts and decisions are those of a naive model.
    #[test]
    fn stories_agree_with_the_model(
        story in proptest::collection::vec((step(), "[rs]", "[abc]"), 1..60),
        strict in any::<bool>(),
    ) {
        let counts = RefCountManager::new(MemoryStorage::new()).update_requires_no_ref(strict);
        let mut model = Model::new();
        for (step, resource, node) in story {
            let allowed = expect(&mut model, &step, &resource, &node);
            let done = match &step {
                Step::Update(operation, ended) => counts.update_ref_count(*operation, &resource, &node, *ended).map(drop),
                Step::Join => counts.join(&resource, &node).map(drop),
                Step::Release => counts.release(&resource, &node).map(drop),
            };
            prop_assert_eq!(done.is_ok(), allowed, "{:?} of {} by {}: {:?}", step, resource, node, done);
            let nodes = model.get(&resource).cloned().unwrap_or_default();
            let count = counts.get_ref_count(&resource).expect("read");
            prop_assert!(count.nodes().eq(nodes.iter().map(String::as_str)), "{:?}, not {:?}", count, nodes);
            let skip = counts.should_skip_operation(Operation::Pull, &resource).expect("decided");
            prop_assert_eq!(skip.map(|it| it.references).unwrap_or_default(), nodes.len());
            let may = |operation| counts.can_perform_operation(operation, &resource, &node).is_ok();
            prop_assert!(may(Operation::Pull));
            prop_assert_eq!(may(Operation::Update), !strict || nodes.is_empty());
            prop_assert_eq!(may(Operation::Delete), nodes.iter().all(|it| *it == node));
        }
    }
}
