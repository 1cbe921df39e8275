//! What the stories play on: a server in this process, examples as processes, and a client that looks on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use ticketlock::ServerConfig;
use ticketlock::grpc::Server;
use ticketlock::service::{IdSource, unix_seconds};
use ticketlock::store::MemoryStore;
use ticketlock_client::{Client, LockEvent, LockInfo, Watch, WatchChange};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};

/// Long enough for every event of these tests on a slow machine; reached only when something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    let event = tokio::time::timeout(PATIENCE, event).await;
    event.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// A server on free ports, in this runtime.
pub struct Stage {
    pub endpoint: String,
    /// Where `/metrics` is.
    pub http: SocketAddr,
    /// Looks on.
    pub client: Client,
}

impl Stage {
    pub async fn new() -> Self {
        let config = ServerConfig::default();
        let store = MemoryStore::new([1; 16], config.shards, unix_seconds());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let pages = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let http = pages.local_addr().expect("an address");
        let server = Server::start(Arc::new(store), config, IdSource::system());
        let server = server.await.expect("it starts");
        tokio::spawn(async move {
            let served = server.run(listener, Some(pages), std::future::pending());
            served.await.expect("it serves");
        });
        let client = Client::connect(&endpoint).await.expect("it answers");
        Self { endpoint, http, client }
    }

    /// The example with this server as its first argument.
    fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command.arg(&self.endpoint).args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts an example.
    pub fn start(&self, name: &str, args: &[&str]) -> Process {
        let mut command = self.command(name, args);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Process { child, lines }
    }

    /// Runs an example to its end.
    pub async fn run(&self, name: &str, args: &[&str]) -> Output {
        soon("the end", self.command(name, args).output())
            .await
            .expect("it runs")
    }

    /// Follows what happens to a key from now on.
    pub async fn events(&self, key: &str) -> Events {
        let mut events = Events {
            watch: self.client.watch(key).await.expect("watched"),
        };
        // Each shard says when its part of the snapshot is complete.
        let shards = self.client.server_info().await.expect("answered").shards;
        for _ in 0..shards {
            while events.change().await != WatchChange::SnapshotEnd {}
        }
        events
    }

    /// Asks for a key until it is as wanted: for what has no event of its own.
    pub async fn until(&self, key: &str, wanted: impl Fn(&LockInfo) -> bool) -> LockInfo {
        let looking = async {
            loop {
                let lock = self.client.get(key).await.expect("answered");
                if wanted(&lock) {
                    return lock;
                }
                tokio::task::yield_now().await;
            }
        };
        soon(key, looking).await
    }
}

/// Where cargo puts an example: beside the folder of this test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("PROFILE/deps/TEST");
    let program = profile.join("examples").join(name);
    let hint = "cargo test -p ticketlock-client builds it; with --test, build it before: cargo build --examples";
    assert!(program.exists(), "{} is not there: {hint}", program.display());
    program
}

/// An example that runs; killed at the end of its test.
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// The next line that it prints.
    pub async fn line(&mut self) -> String {
        let line = soon("a line", self.lines.next_line()).await.expect("utf-8");
        line.expect("a line, and not the end")
    }

    /// Waits for a line that begins so; what follows.
    pub async fn until(&mut self, beginning: &str) -> String {
        loop {
            if let Some(rest) = self.line().await.strip_prefix(beginning) {
                return rest.to_owned();
            }
        }
    }

    /// The lines that are left, when it has ended.
    pub async fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(line) = soon("the end", self.lines.next_line()).await.expect("utf-8") {
            rest.push(line);
        }
        rest
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).expect("it runs");
        kill_process(pid, signal).expect("it runs");
    }

    pub async fn ended(&mut self) -> ExitStatus {
        soon("the end", self.child.wait()).await.expect("a status")
    }
}

/// What happens under a prefix.
pub struct Events {
    watch: Watch,
}

impl Events {
    async fn change(&mut self) -> WatchChange {
        let event = soon("an event", self.watch.next()).await;
        event.expect("it goes on").expect("answered").change
    }

    pub async fn next(&mut self) -> LockEvent {
        loop {
            if let WatchChange::Changed(event) = self.change().await {
                return event;
            }
        }
    }
}
