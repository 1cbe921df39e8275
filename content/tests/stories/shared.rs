//! Several nodes and one resource: who does the work, and who takes it over.

use std::fs;

use ticketlock_content::client::{Outcome, OutcomeStatus};
use ticketlock_content::refcount::MemoryStorage;
use ticketlock_content::{Digest, Node, Skipped, Writer};
use tokio::task::JoinHandle;

use crate::world::{World, content, key, layer, nodes, pull, write};

#[path = "../../examples/two_nodes/story.rs"]
mod story;

/// Opens a pull beside this test.
fn opening(node: &Node, resource_id: &str) -> JoinHandle<Writer> {
    let opening = node.pull(resource_id).open();
    tokio::spawn(async move { opening.await.expect("opened") })
}

/// Goal: where counts say that there is nothing to do, the server is not asked anything, not even for a connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_counted_pull_asks_nobody() {
    let world = World::new().await;
    let (id, bytes) = layer("one");
    let nobody = world.asked().await;
    let first = world.node("node-a");
    pull(&first, &id, &bytes).await;
    let before = world.asked().await;
    assert_ne!(before, nobody, "a pull that does its work is counted");
    for node in [&world.node("node-b"), &first] {
        let writer = node.pull(&id).open().await.expect("opened");
        assert!(
            matches!(writer.why_skipped(), Some(Skipped::Referenced(_))),
            "{writer:?}"
        );
        writer.close().await.expect("closed");
    }
    assert_eq!(world.asked().await, before, "left: after the skips, right: before");
    assert_eq!(nodes(&world.node("any"), &id).await, ["node-a", "node-b"]);
}

/// Goal: two nodes pull one layer at once: one download; the other decides again after its grant, and both are counted.
#[tokio::test(flavor = "multi_thread")]
async fn who_waited_decides_again() {
    let world = World::new().await;
    let (id, bytes) = layer("one");
    let (a, b) = (world.node("node-a"), world.node("node-b"));
    let mut first = a.pull(&id).open().await.expect("opened");
    let second = opening(&b, &id);
    world.until_waiting(&key(&id), 1).await;
    write(&mut first, &bytes).await;
    let second = second.await.expect("its turn");
    let why = second.why_skipped();
    assert!(matches!(why, Some(Skipped::ReferencedMeanwhile(_))), "{why:?}");
    assert_eq!(nodes(&a, &id).await, ["node-a", "node-b"]);
    assert!(
        world
            .client()
            .await
            .get(&key(&id))
            .await
            .expect("answered")
            .holders
            .is_empty()
    );
}

/// Goal: nodes with counts of their own learn by the previous outcome that the work is done, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_handed_from_one_to_the_next() {
    let world = World::new().await;
    let node = |name| world.builder(name).counts(MemoryStorage::new()).open().expect("opens");
    let line = ["node-a", "node-b", "node-c", "node-d"].map(node);
    let [first, rest @ ..] = &line;
    // Its name tells nothing of its content, so that only the outcome can.
    let mut writer = first.pull("latest").open().await.expect("opened");
    let mut waiting = Vec::new();
    for (place, node) in (1..).zip(rest) {
        waiting.push(opening(node, "latest"));
        world.until_waiting(&key("latest"), place).await;
    }
    write(&mut writer, b"new things").await;
    for writer in waiting {
        let writer = writer.await.expect("its turn");
        assert_eq!(writer.why_skipped(), Some(Skipped::HandedOver), "{writer:?}");
    }
    for node in &line {
        assert_eq!(nodes(node, "latest").await, [node.node_id()], "each counts for itself");
    }
    assert_eq!(content(first, "latest").as_deref(), Some(b"new things".as_slice()));
}

/// Goal: an outcome is believed only as far as what is there agrees with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_checked() {
    let world = World::new().await;
    let node = world.node("node-a");
    let client = world.client().await;
    let told = Outcome {
        status: OutcomeStatus::Success,
        note: Digest::of(b"as told").to_string(),
    };
    for (id, there, agrees) in [
        ("missing", None, false),
        ("other", Some("something else"), false),
        ("right", Some("as told"), true),
    ] {
        if let Some(text) = there {
            fs::write(node.path(id), text).expect("written");
        }
        let guard = client.lock(key(id)).await.expect("granted");
        let writer = opening(&node, id);
        world.until_waiting(&key(id), 1).await;
        guard.unlock(told.clone()).await.expect("given back");
        let writer = writer.await.expect("its turn");
        let expected = agrees.then_some(Skipped::HandedOver);
        assert_eq!(writer.why_skipped(), expected, "{id}");
        assert_eq!(nodes(&node, id).await.len(), usize::from(agrees), "{id}");
    }
}

/// Goal: a failure is handed over as such: the next one does the work.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_the_next_one_works() {
    let world = World::new().await;
    let (id, bytes) = layer("one");
    let (a, b) = (world.node("node-a"), world.node("node-b"));
    let mut first = a.pull(&id).open().await.expect("opened");
    first.write(b"half").expect("written");
    let second = opening(&b, &id);
    world.until_waiting(&key(&id), 1).await;
    first.close().await.expect("closed");
    let mut second = second.await.expect("its turn");
    write(&mut second, &bytes).await;
    assert_eq!(nodes(&a, &id).await, ["node-b"], "who failed is not counted");
}

/// Goal: content that nobody counted, as after a crash between the two, is taken over if it is right; a count without
/// content is no reason to skip.
#[tokio::test(flavor = "multi_thread")]
async fn content_and_count_come_together_again() {
    let world = World::new().await;
    let (id, bytes) = layer("one");
    let node = world.node("node-a");
    fs::write(node.path(&id), &bytes).expect("written");
    let writer = node.pull(&id).open().await.expect("opened");
    assert_eq!(writer.why_skipped(), Some(Skipped::Found));
    assert_eq!(nodes(&node, &id).await, ["node-a"]);
    fs::remove_file(node.path(&id)).expect("removed");
    pull(&world.node("node-b"), &id, &bytes).await;
    assert_eq!(nodes(&node, &id).await, ["node-a", "node-b"]);
}

/// Goal: two nodes that use counts and lock directly download once.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_do_without_a_writer() {
    let world = World::new().await;
    let told = story::run(&world.url).await.expect("it is played");
    assert_eq!((told.downloads, told.references), (1, 2), "{:?}", told.lines);
}
