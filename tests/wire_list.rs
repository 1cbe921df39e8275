//! Reading over a real socket: pages of a list, and watches.

#[expect(dead_code, reason = "other test files need more of it")]
mod support;

use support::{hold, start_server};
use ticketlock::config::ServerConfig;
use ticketlock_proto::v1;

/// Goal: pages of a list hold each key once, in byte order, and a watch tells the snapshot and what comes after it.
#[tokio::test]
async fn list_and_watch() {
    use v1::watch_locks_response::Event as Step;
    let server = start_server(ServerConfig::default()).await;
    let mut locks = server.locks().await;
    let mut held = Vec::new();
    for number in 0..25 {
        held.push(hold(&mut locks, &format!("p/{number:02}"), "a").await);
    }
    let mut keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = v1::ListLocksRequest {
            prefix: "p/".into(),
            page_size: 10,
            page_token,
            ..Default::default()
        };
        let page = locks.list_locks(page).await.expect("answered").into_inner();
        keys.extend(page.locks.into_iter().map(|info| info.key));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(keys, (0..25).map(|number| format!("p/{number:02}")).collect::<Vec<_>>());

    let watch = v1::WatchLocksRequest { prefix: "p/1".into() };
    let mut watch = locks.watch_locks(watch).await.expect("open").into_inner();
    let (mut shown, mut complete) = (0, 0);
    while complete < server.service.shards().get() {
        match watch
            .message()
            .await
            .expect("no error")
            .and_then(|message| message.event)
        {
            Some(Step::Snapshot(_)) => shown += 1,
            Some(Step::SnapshotEnd(_)) => complete += 1,
            other => panic!("part of a snapshot was expected, not {other:?}"),
        }
    }
    assert_eq!(shown, 10);
    let (_new, _) = hold(&mut locks, "p/1x", "b").await;
    let message = watch
        .message()
        .await
        .expect("no error")
        .and_then(|message| message.event);
    let Some(Step::Changed(change)) = message else {
        panic!("a change was expected, not {message:?}")
    };
    assert_eq!((change.key.as_str(), change.owner.as_str()), ("p/1x", "b"));
}

/// Goal: a list of many large keys is cut into pages that fit into a reply.
#[tokio::test]
async fn large_lists_are_cut() {
    let mut config = ServerConfig::default();
    config.limits.reply_bytes_max = 16 * 1024;
    let server = start_server(config).await;
    let mut locks = server.locks().await;
    let metadata = || std::collections::HashMap::from([("n".to_owned(), "v".repeat(1_000))]);
    for number in 0..40 {
        let key = format!("k/{number:02}");
        let attempt = v1::TryLockRequest {
            key,
            owner: "a".into(),
            metadata: metadata(),
            ..Default::default()
        };
        locks.try_lock(attempt).await.expect("answered");
    }
    let (mut keys, mut pages, mut page_token) = (0, 0, String::new());
    loop {
        let page = v1::ListLocksRequest {
            page_token,
            page_size: 1_000,
            ..Default::default()
        };
        let page = locks.list_locks(page).await.expect("answered").into_inner();
        assert!(prost::Message::encoded_len(&page) <= 16 * 1024);
        (keys, pages) = (keys + page.locks.len(), pages + 1);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(keys, 40);
    assert!(pages > 2, "{pages} pages");
}
