//! One writer: what it may, what it leaves, what it tells.

use std::fs;

use ticketlock_content::client::OutcomeStatus;
use ticketlock_content::{Digest, Error, Writer};

use crate::world::{World, content, entries, key, layer, nodes, pull, write};

/// Goal: a pull writes once, shows nothing before the commit, counts, and hands over its success; all of it safe to repeat.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_written_counted_and_handed_over() {
    let world = World::new().await;
    let (id, bytes) = layer("one");
    let node = world.node("node-a");
    let mut writer = node.pull(&id).size(bytes.len() as u64).open().await.expect("opened");
    assert!(writer.is_locked() && !writer.is_skipped());
    assert_eq!(
        (writer.resource_id(), writer.why_skipped(), writer.committed()),
        (id.as_str(), None, None)
    );
    let client = world.client().await;
    let holders = client.get(&key(&id)).await.expect("answered").holders;
    assert_eq!(
        holders.iter().map(|it| it.owner.as_str()).collect::<Vec<_>>(),
        ["node-a"]
    );

    let (first, rest) = bytes.split_at(1_000);
    assert_eq!(writer.write(first).expect("written"), 1_000);
    let progress = writer.progress();
    assert_eq!((progress.written, progress.size), (1_000, Some(bytes.len() as u64)));
    assert_eq!(content(&node, &id), None, "nothing is visible yet");
    assert!(nodes(&node, &id).await.is_empty(), "nothing is counted yet");

    write(&mut writer, rest).await;
    assert_eq!(content(&node, &id).as_deref(), Some(bytes.as_slice()));
    assert_eq!(nodes(&node, &id).await, ["node-a"]);
    let committed = writer.committed().expect("committed").clone();
    assert_eq!((committed.digest, committed.references), (Digest::of(&bytes), 1));
    assert!(committed.handed_over && !writer.is_locked());
    writer.commit().await.expect("once more");
    assert_eq!(writer.committed(), Some(&committed), "repeated, it changes nothing");
    assert!(matches!(writer.write(b"more"), Err(Error::Closed)));
    assert_eq!(writer.progress().written, bytes.len() as u64);
    writer.close().await.expect("closed");
    assert_eq!(content(&node, &id), Some(bytes), "closing after a commit does nothing");
    assert!(client.get(&key(&id)).await.expect("answered").holders.is_empty());
    world.check_no_partial();
}

/// Goal: a skipped writer takes no lock, refuses to write, and its other calls do nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_writer_has_nothing_to_write() {
    let world = World::new().await;
    let (id, bytes) = layer("one");
    pull(&world.node("node-a"), &id, &bytes).await;
    let node = world.node("node-b");
    let mut writer = node.pull(&id).open().await.expect("opened");
    assert!(writer.is_skipped() && !writer.is_locked());
    assert_eq!(
        writer.why_skipped().expect("why").to_string(),
        "1 node refers to it already"
    );
    assert!(matches!(writer.write(b"more"), Err(Error::Skipped)));
    assert_eq!((writer.progress().written, writer.fencing_token()), (0, None));
    writer.commit().await.expect("nothing to do");
    assert!(writer.is_skipped() && writer.committed().is_none());
    writer.close().await.expect("nothing to do");
    assert_eq!(nodes(&node, &id).await, ["node-a", "node-b"]);
    assert_eq!(content(&node, &id), Some(bytes));
}

/// Goal: the call of the seed's shape opens a writer with the defaults.
#[tokio::test(flavor = "multi_thread")]
async fn one_call_opens_a_writer() {
    let world = World::new().await;
    let (id, bytes) = layer("one");
    let open = |node_id| Writer::open(&world.url, node_id, world.folder.path(), &id);
    let mut first = open("node-a").await.expect("opened");
    write(&mut first, &bytes).await;
    assert!(open("node-b").await.expect("opened").is_skipped());
    assert_eq!(nodes(&world.node("any"), &id).await, ["node-a", "node-b"]);
    let error = open("").await.expect_err("nobody").to_string();
    assert_eq!(error, "node_id: 0 bytes, expected 1 to 256");
}

/// Goal: content that is not what it is to be never becomes visible, and what is missing can still be written.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_is_refused() {
    let world = World::new().await;
    let (id, bytes) = layer("one");
    let node = world.node("node-a");
    let mut writer = node.pull(&id).open().await.expect("opened");
    writer.write(b"something else").expect("written");
    let error = writer.commit().await.expect_err("not what it is called after");
    assert!(
        matches!(error, Error::Digest { .. }) && error.to_string().contains(&id),
        "{error}"
    );
    assert_eq!(content(&node, &id), None);
    writer.close().await.expect("closed");

    let size = bytes.len() as u64;
    let mut writer = node.pull(&id).size(size).open().await.expect("opened");
    let (first, rest) = bytes.split_at(bytes.len() - 1);
    writer.write(first).expect("written");
    let error = writer.commit().await.expect_err("too short");
    assert_eq!(error.to_string(), format!("size: {} bytes, expected {size}", size - 1));
    assert!(matches!(writer.write(b"xy"), Err(Error::Size { actual, .. }) if actual == size + 1));
    assert!(nodes(&node, &id).await.is_empty() && content(&node, &id).is_none());
    write(&mut writer, rest).await;
    assert_eq!(content(&node, &id), Some(bytes));
}

/// Goal: closed or dropped without a commit, a writer leaves nothing behind and tells the next holder of a failure.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_commit_nothing_is_left() {
    let world = World::new().await;
    let node = world.node("node-a");
    let client = world.client().await;
    for dropped in [true, false] {
        let id = if dropped { "dropped" } else { "closed" };
        let mut writer = node.pull(id).open().await.expect("opened");
        writer.write(b"half of it").expect("written");
        let asking = tokio::spawn({
            let client = client.clone();
            async move { client.lock(key(id)).await.expect("granted") }
        });
        world.until_waiting(&key(id), 1).await;
        assert_eq!(entries(&world.folder.path().join("partial")).len(), 1);
        if dropped {
            drop(writer);
        } else {
            writer.close().await.expect("closed");
        }
        let next = asking.await.expect("its turn");
        assert_eq!(next.previous_outcome().status, OutcomeStatus::Failure, "{id}");
        assert_eq!(next.previous_outcome().note, "closed without a commit");
        assert_eq!(content(&node, id), None);
        assert!(nodes(&node, id).await.is_empty());
        world.check_no_partial();
    }
}

/// Goal: who has lost its lock writes nothing more and makes nothing visible.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lock_ends_the_writing() {
    let world = World::new().await;
    let (id, bytes) = layer("one");
    let node = world.node("node-a");
    let mut writer = node.pull(&id).open().await.expect("opened");
    writer.write(&bytes).expect("written");
    let token = writer.fencing_token().expect("a token");
    let client = world.client().await;
    client
        .force_unlock(&key(&id), token, "maintenance", "ops")
        .await
        .expect("forced");
    let reason = writer.lost().await;
    let lost = |error: &Error| matches!(error, Error::Lost { reason: Some(told) } if *told == reason);
    let error = writer.write(b"more").expect_err("lost");
    assert!(
        lost(&error) && error.to_string().contains("ops took it: maintenance"),
        "{error}"
    );
    assert!(lost(&writer.commit().await.expect_err("lost")));
    assert_eq!(content(&node, &id), None);
    assert!(nodes(&node, &id).await.is_empty());
    // The next one removes what is left, and is not held up.
    pull(&world.node("node-b"), &id, &bytes).await;
    world.check_no_partial();
    assert!(lost(&writer.commit().await.expect_err("still lost")));
    writer.close().await.expect("closed");
    assert_eq!(
        content(&node, &id),
        Some(bytes),
        "and it takes nothing away from the next one"
    );
}

/// Goal: even a writer that does not know of its loss makes nothing visible, once the next holder was there.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_holder_bars_the_one_before() {
    let world = World::new().await;
    let node = world.node("node-a");
    let mut writer = node.pull("anything").open().await.expect("opened");
    writer.write(b"stale").expect("written");
    let left = entries(&world.folder.path().join("partial"));
    let [name] = left.as_slice() else {
        panic!("one partial file, not {left:?}");
    };
    // What the next holder does first.
    fs::remove_file(world.folder.path().join("partial").join(name)).expect("removed");
    let error = writer.commit().await.expect_err("barred");
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert_eq!(content(&node, "anything"), None);
    assert!(nodes(&node, "anything").await.is_empty());
}

/// Goal: what dead holders left of this resource goes; what belongs to others, or to a later holder, stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_dead_left_is_removed() {
    let world = World::new().await;
    let node = world.node("node-a");
    let partial = world.folder.path().join("partial");
    let names = ["n-r.1", "n-r.2", "n-r-r.1", "n-other.1", &format!("n-r.{}", u64::MAX)];
    for name in names {
        fs::write(partial.join(name), "left").expect("written");
    }
    let writer = node.pull("r").open().await.expect("opened");
    let own = format!("n-r.{}", writer.fencing_token().expect("a token"));
    let mut left = entries(&partial);
    left.sort();
    let mut expected = vec!["n-r-r.1", "n-other.1", names[4], own.as_str()];
    expected.sort_unstable();
    assert_eq!(left, expected);
}
