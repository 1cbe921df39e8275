//! Update, delete, release, and who keeps whom out.

use std::time::Duration;

use ticketlock_content::refcount::Operation;
use ticketlock_content::{Error, LockResult, Node};

use crate::world::{World, content, key, nodes, pull, write};

/// Goal: an update replaces content in one step and leaves the count; with the option it needs that nobody refers to it,
/// and is refused without a word to the server.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_replaces_content() {
    let world = World::new().await;
    let node = world.node("node-a");
    pull(&node, "r", b"old").await;
    let mut writer = world.node("node-b").update("r").open().await.expect("opened");
    writer.write(b"new").expect("written");
    assert_eq!(
        content(&node, "r").as_deref(),
        Some(b"old".as_slice()),
        "until the commit"
    );
    writer.commit().await.expect("committed");
    assert_eq!(content(&node, "r").as_deref(), Some(b"new".as_slice()));
    assert_eq!(nodes(&node, "r").await, ["node-a"], "who updates does not refer to it");

    let strict = world
        .builder("node-c")
        .update_requires_no_ref(true)
        .open()
        .expect("opens");
    let before = world.asked().await;
    let error = strict.update("r").open().await.expect_err("node-a refers to it");
    let words = "update refused: 1 refer to it (such as \"node-a\"), the limit is 0";
    assert!(
        matches!(error, Error::Refused(_)) && error.to_string() == words,
        "{error}"
    );
    assert_eq!(world.asked().await, before);
    node.release("r").await.expect("released");
    let mut writer = strict.update("r").open().await.expect("nobody refers to it");
    write(&mut writer, b"newer").await;
    assert_eq!(content(&node, "r").as_deref(), Some(b"newer".as_slice()));
}

/// Goal: what others refer to stays, without a word to the server; the last one removes count and content.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_deletes() {
    let world = World::new().await;
    let (a, b) = (world.node("node-a"), world.node("node-b"));
    pull(&a, "r", b"content").await;
    assert!(b.pull("r").open().await.expect("opened").is_skipped());
    let before = world.asked().await;
    let error = a.delete("r").await.expect_err("node-b refers to it");
    assert!(
        matches!(error, Error::Refused(_)) && error.to_string().contains("node-b"),
        "{error}"
    );
    assert_eq!(world.asked().await, before);
    assert_eq!(b.release("r").await.expect("released").count(), 1);
    a.delete("r").await.expect("nobody else refers to it");
    assert_eq!((content(&a, "r"), nodes(&a, "r").await.len()), (None, 0));
    a.delete("r").await.expect("gone is gone");
    pull(&b, "r", b"content").await;
    assert_eq!(nodes(&a, "r").await, ["node-b"]);
}

/// Goal: a pull, an update and a delete of one resource keep each other out, and a refusal after the wait is told.
#[tokio::test(flavor = "multi_thread")]
async fn operations_on_one_resource_take_turns() {
    let world = World::new().await;
    let (a, b) = (world.node("node-a"), world.node("node-b"));
    let mut pulling = a.pull("r").open().await.expect("opened");
    let deleting = tokio::spawn({
        let b = b.clone();
        async move { b.delete("r").await }
    });
    world.until_waiting(&key("r"), 1).await;
    let updating = tokio::spawn({
        let opening = b.update("r").open();
        async move { opening.await.expect("its turn") }
    });
    world.until_waiting(&key("r"), 2).await;
    write(&mut pulling, b"content").await;
    let error = deleting.await.expect("no panic").expect_err("a refers to it by now");
    assert!(matches!(error, Error::Refused(_)), "{error}");
    let mut updating = updating.await.expect("no panic");
    write(&mut updating, b"newer").await;
    assert_eq!(content(&a, "r").as_deref(), Some(b"newer".as_slice()));
    assert_eq!(nodes(&a, "r").await, ["node-a"]);
}

/// Goal: distinct kinds and resources never wait for each other, however alike their names.
#[tokio::test(flavor = "multi_thread")]
async fn distinct_resources_do_not_block() {
    let world = World::new().await;
    let long = "x".repeat(600);
    let ids = [
        "a",
        "A",
        "a/b",
        "a%2fb",
        "a#b",
        "#",
        "a\n",
        long.as_str(),
        &format!("{long}y"),
    ];
    let config = || {
        let mut config = world.config("node-a");
        config.request_timeout = Duration::from_secs(20);
        config
    };
    let mut held = Vec::new();
    for kind in ["layer", "layer/a", "layer%2fa", "config"] {
        let node = Node::builder(config(), world.folder.path().join("apart"))
            .kind(kind)
            .open()
            .expect("opens");
        for id in ids {
            let result = node.lock(Operation::Pull, id).await;
            let LockResult::Acquired(guard) = result.expect("nobody else has it") else {
                panic!("nobody refers to {kind} {id:?}");
            };
            held.push(guard);
        }
    }
    assert!(held.iter().all(ticketlock_content::client::Guard::is_held));
    let keys: std::collections::BTreeSet<&str> = held.iter().map(|guard| guard.key()).collect();
    assert_eq!(keys.len(), held.len());
}
