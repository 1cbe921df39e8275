//! The HTTP port, and the end of a server.

#[expect(dead_code, reason = "other test files need more of it")]
mod support;

use std::collections::BTreeSet;

use support::{TestServer, event, granted, lock, message, queued, request, start_server, unlock, wire};
use ticketlock::config::ServerConfig;
use ticketlock::telemetry::names;
use ticketlock_proto::v1;
use ticketlock_proto::v1::lock_response::Event;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Status line and body of a page.
async fn page(server: &TestServer, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(server.http).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

/// Goal: every metric of the table is scraped, none besides, and what happened is counted.
#[tokio::test]
async fn metrics_are_those_of_the_table() {
    let server = start_server(ServerConfig::default()).await;
    let mut locks = server.locks().await;
    let mut first = lock(&mut locks, request("k", "a")).await.expect("taken");
    let token = granted(&mut first).await.fencing_token;
    let mut second = lock(&mut locks, request("k", "b")).await.expect("in line");
    queued(&mut second).await;
    locks.unlock(unlock("k", "a", token)).await.expect("answered");
    granted(&mut second).await;
    let attempt = v1::TryLockRequest {
        key: "k".into(),
        owner: "c".into(),
        ..Default::default()
    };
    locks.try_lock(attempt.clone()).await.expect("answered");
    locks
        .try_lock(v1::TryLockRequest {
            ttl: wire(0, 0),
            ..attempt
        })
        .await
        .expect_err("refused");

    let (status, text) = page(&server, "/metrics").await;
    assert!(status.contains("200"), "{status}");
    let scraped: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let table: BTreeSet<&str> = names::ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(scraped, table, "left: scraped, right: the table");
    for line in [
        "ticketlock_acquisitions_total{mode=\"exclusive\",outcome=\"granted\"} 2",
        "ticketlock_acquisitions_total{mode=\"exclusive\",outcome=\"would_wait\"} 1",
        "ticketlock_contended_acquisitions_total{mode=\"exclusive\"} 1",
        "ticketlock_handoff_seconds_count 1",
        "ticketlock_hold_seconds_count{mode=\"exclusive\"} 1",
        "ticketlock_holders 1",
        "ticketlock_waiters 0",
        "ticketlock_live_streams{rpc=\"Lock\"} 1",
        "ticketlock_errors_total{reason=\"INVALID_TTL\"} 1",
        "ticketlock_request_seconds_count{rpc=\"TryLock\",code=\"INVALID_ARGUMENT\"} 1",
        "ticketlock_unlocks_total{outcome=\"released\"} 1",
        "ticketlock_ready 1",
    ] {
        assert!(text.lines().any(|scraped| scraped == line), "{line} in\n{text}");
    }
    assert!(
        !text.contains("\"k\"") && !text.contains("\"a\""),
        "no key and no owner is a label"
    );
}

/// Goal: the pages for whoever starts and stops servers answer, and say what the store is worth.
#[tokio::test]
async fn health_and_readiness() {
    let server = start_server(ServerConfig::default()).await;
    assert!(page(&server, "/healthz").await.0.contains("200"));
    let (status, text) = page(&server, "/readyz").await;
    assert!(status.contains("200") && text.contains("memory"), "{status} {text}");
}

/// Goal: a server that is told to stop tells those who wait and those who hold, answers why it is not ready, and ends
/// within its bound although clients keep their connections and their locks.
#[tokio::test]
async fn the_end_is_bounded() {
    let within = std::time::Duration::from_secs(2);
    let config = ServerConfig {
        shutdown_within: within,
        ..ServerConfig::default()
    };
    let server = start_server(config).await;
    let mut locks = server.locks().await;
    let mut held = lock(&mut locks, request("k", "a")).await.expect("taken");
    granted(&mut held).await;
    let mut waiting = lock(&mut locks, request("k", "b")).await.expect("in line");
    queued(&mut waiting).await;
    // Connections of which nobody reads anything.
    let _idle = server.locks().await;
    let _silent = TcpStream::connect(server.endpoint.trim_start_matches("http://"))
        .await
        .expect("connects");

    let http = server.http;
    let started = tokio::time::Instant::now();
    let ending = server.stop();
    assert!(matches!(event(&mut waiting).await, Event::ServerDraining(_)));
    assert!(matches!(event(&mut held).await, Event::ServerDraining(_)));
    let mut probe = TcpStream::connect(http).await.expect("the pages stay");
    probe
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = String::new();
    probe.read_to_string(&mut answer).await.expect("read");
    assert!(answer.contains("503") && answer.contains("draining"), "{answer}");
    ending.ended().await;
    assert!(started.elapsed() < within * 2, "ended after {:?}", started.elapsed());
    // The streams end; how is the connection's own matter.
    while let Ok(Some(_)) = message(&mut held).await {}
}
