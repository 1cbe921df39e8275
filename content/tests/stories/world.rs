//! A server in this process, a directory, and nodes that share both.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use ticketlock::ServerConfig;
use ticketlock::grpc::Server;
use ticketlock::service::{IdSource, unix_seconds};
use ticketlock::store::{Faults, FaultyStore, MemoryStore};
use ticketlock_content::client::Client;
use ticketlock_content::{ClientConfig, Digest, Node, NodeBuilder, Writer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Reached only when something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The server and the directory; both end with it.
pub struct World {
    /// Of the server, `http://HOST:PORT`.
    pub url: String,
    /// Where it tells what it counted.
    pages: SocketAddr,
    /// What nodes share.
    pub folder: TempDir,
}

/// Serves on this listener until the runtime ends.
pub async fn serve(listener: TcpListener, pages: Option<TcpListener>) {
    serve_with(listener, pages, ServerConfig::default(), Faults::default()).await;
}

/// The same, with a store that fails when it is told to.
pub async fn serve_with(listener: TcpListener, pages: Option<TcpListener>, config: ServerConfig, faults: Faults) {
    let store = MemoryStore::new([1; 16], config.shards, unix_seconds());
    let store = FaultyStore::new(store, faults);
    let server = Server::start(Arc::new(store), config, IdSource::system())
        .await
        .expect("it starts");
    server
        .run(listener, pages, std::future::pending())
        .await
        .expect("it serves");
}

/// A port of this machine.
pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

impl World {
    pub async fn new() -> Self {
        Self::with(ServerConfig::default(), Faults::default()).await
    }

    /// Its server has this configuration, and a store that fails when it is told to.
    pub async fn with(config: ServerConfig, faults: Faults) -> Self {
        let ((listener, address), (pages_listener, pages)) = (listen().await, listen().await);
        tokio::spawn(serve_with(listener, Some(pages_listener), config, faults));
        Self {
            url: format!("http://{address}"),
            pages,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub fn config(&self, node_id: &str) -> ClientConfig {
        ClientConfig::new(&self.url, node_id)
    }

    pub fn builder(&self, node_id: &str) -> NodeBuilder {
        Node::builder(self.config(node_id), self.folder.path())
    }

    /// A node with the defaults.
    pub fn node(&self, node_id: &str) -> Node {
        self.builder(node_id).open().expect("it opens")
    }

    /// A client that looks on.
    pub async fn client(&self) -> Client {
        Client::connect(&self.url).await.expect("connected")
    }

    /// Waits until so many wait in line for the key.
    pub async fn until_waiting(&self, key: &str, count: u64) {
        let client = self.client().await;
        let waiting = async {
            let mut events = client.watch(key).await.expect("a watch");
            while client.get(key).await.expect("answered").waiters_total != count {
                events.next().await.expect("the watch goes on").expect("an event");
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("they come in time");
    }

    /// All that the server has counted of clients: calls, locks that were asked for and given back, open connections.
    pub async fn asked(&self) -> Vec<String> {
        const COUNTED: [&str; 4] = [
            "ticketlock_request_seconds_count",
            "ticketlock_acquisitions_total",
            "ticketlock_unlocks_total",
            "ticketlock_connections ",
        ];
        let text = self.metrics().await;
        let counted = |line: &&str| COUNTED.iter().any(|name| line.starts_with(name));
        let mut lines: Vec<String> = text.lines().filter(counted).map(str::to_owned).collect();
        lines.sort();
        assert!(
            lines.iter().any(|line| line.starts_with("ticketlock_connections ")),
            "{text}"
        );
        lines
    }

    async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.pages).await.expect("connects");
        let request = "GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    }

    /// Nothing that was being written is left.
    #[track_caller]
    pub fn check_no_partial(&self) {
        let left = entries(&self.folder.path().join("partial"));
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// Names in a folder.
pub fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect()
}

/// A resource that is called after its content.
pub fn layer(text: &str) -> (String, Vec<u8>) {
    let content = text.repeat(1_000).into_bytes();
    (Digest::of(&content).to_string(), content)
}

/// The key of a layer's lock.
pub fn key(resource_id: &str) -> String {
    ticketlock_content::lock_key("layer", resource_id).expect("a key")
}

/// Writes and commits.
pub async fn write(writer: &mut Writer, content: &[u8]) {
    assert!(writer.is_locked(), "{writer:?}");
    for chunk in content.chunks(700) {
        assert_eq!(writer.write(chunk).expect("written"), chunk.len());
    }
    writer.commit().await.expect("committed");
}

/// Pulls a resource that nobody has.
pub async fn pull(node: &Node, resource_id: &str, content: &[u8]) {
    let mut writer = node.pull(resource_id).open().await.expect("opened");
    write(&mut writer, content).await;
    writer.close().await.expect("closed");
}

/// Who refers to a resource.
pub async fn nodes(node: &Node, resource_id: &str) -> Vec<String> {
    let count = node.references(resource_id).await.expect("read");
    count.nodes().map(str::to_owned).collect()
}

/// What is visible of a resource.
pub fn content(node: &Node, resource_id: &str) -> Option<Vec<u8>> {
    fs::read(node.path(resource_id)).ok()
}
