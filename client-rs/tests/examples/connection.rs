//! One connection for all that a client does.

use ticketlock_client::{Client, Guard};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{Stage, soon};

/// The value of a gauge.
async fn gauge(stage: &Stage, name: &str) -> u64 {
    let mut stream = TcpStream::connect(stage.http).await.expect("connects");
    let request = b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("read");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect(name).parse().expect("a number")
}

/// Locks on the session, locks of other owners with a stream each, watches and single calls share one connection;
/// another client has another one.
#[tokio::test(flavor = "multi_thread")]
async fn all_streams_of_a_client_share_one_connection() {
    let stage = Stage::new().await;
    let client = &stage.client;
    let mut guards: Vec<Guard> = Vec::new();
    for number in 0..300 {
        guards.push(client.lock(format!("session/{number}")).await.expect("free"));
    }
    for number in 0..100 {
        let other = client.on_behalf_of(format!("owner-{number}"));
        guards.push(other.lock(format!("plain/{number}")).await.expect("free"));
        assert!(other.try_lock("session/0").await.is_err());
    }
    let _watch = client.watch("session/").await.expect("watched");
    assert_eq!(client.list("plain/").await.expect("answered").len(), 100);
    assert_eq!(gauge(&stage, "ticketlock_live_streams{rpc=\"Lock\"}").await, 100);
    assert_eq!(gauge(&stage, "ticketlock_live_streams{rpc=\"Session\"}").await, 1);
    assert_eq!(gauge(&stage, "ticketlock_live_streams{rpc=\"WatchLocks\"}").await, 1);
    assert_eq!(gauge(&stage, "ticketlock_connections").await, 1);

    let second = Client::connect(&stage.endpoint).await.expect("it answers");
    assert_eq!(gauge(&stage, "ticketlock_connections").await, 2);
    drop(second);
    let gone = async { while gauge(&stage, "ticketlock_connections").await != 1 {} };
    soon("the second connection's end", gone).await;
}
