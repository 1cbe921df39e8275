//! The accident and the cure: a client is stopped between its last check and its write until its lock is another's.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use ticketlock::config::ServerConfig;
use ticketlock::grpc::server::Server;
use ticketlock::service::{IdSource, unix_seconds};
use ticketlock::store::MemoryStore;
use ticketlock_fencing::{Fence, TOKEN_MAX};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::counter::{Counter, Place};

/// Longer than anything takes; reached only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// Plays it twice, at two places: without fences an update is lost, and with them the late writer is refused.
pub async fn story(place: impl Fn(&str) -> Place) {
    let accident = Counter {
        place: place("plain"),
        fenced: false,
    };
    let told = play(&accident).await;
    // Both were told that they had written, and the newer write of the two is gone.
    assert_eq!(told.late, "written");
    assert_eq!(told.count, 1, "the late writer overwrote what its successor had added");

    let cure = Counter {
        place: place("fenced"),
        fenced: true,
    };
    let told = play(&cure).await;
    assert_eq!(told.late, format!("stale {} {}", told.newer_token, told.older_token));
    assert_eq!(told.count, 10, "what the newer holder wrote is there still");
}

/// What came of it.
struct Told {
    older_token: u64,
    newer_token: u64,
    /// What the paused client said after its write.
    late: String,
    /// What the counter said then.
    count: i64,
}

async fn play(counter: &Counter) -> Told {
    counter.make().await;
    let endpoint = serve().await;
    let mut older = Worker::start(&endpoint, 1, counter);
    let older_token = older.token().await;
    older.pause();
    // It waits in line: that it holds the lock is the proof that the pause has outlasted the lease.
    let mut newer = Worker::start(&endpoint, 10, counter);
    let newer_token = newer.token().await;
    assert!(newer_token > older_token, "{newer_token} after {older_token}");
    newer.go_on().await;
    assert_eq!(newer.line().await, "written");
    older.go_on().await;
    let late = older.line().await;
    // Read as nobody in particular: without a fence, or with one that refuses nobody afterwards.
    let reader = Fence::new(TOKEN_MAX, 1).expect("valid");
    let count = counter.read(reader).await.expect("read");
    if late != "written" {
        // A refused client begins again from the lock, and loses nothing.
        assert!(older.token().await > newer_token);
        older.go_on().await;
        assert_eq!(older.line().await, "written");
        assert_eq!(counter.read(reader).await.expect("read"), 11, "both have added");
    }
    Told {
        older_token,
        newer_token,
        late,
        count,
    }
}

/// A Ticketlock server in this process, for as long as its runtime; its address.
async fn serve() -> String {
    let config = ServerConfig::default();
    let store = MemoryStore::new([7; 16], config.shards, unix_seconds());
    let server = Server::start(Arc::new(store), config, IdSource::system());
    let server = server.await.expect("starts");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(server.run(listener, None, std::future::pending()));
    endpoint
}

/// A client, in a process of its own; killed with its value.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(endpoint: &str, amount: i64, counter: &Counter) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["worker", endpoint, &amount.to_string()])
            .args(counter.to_arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, input, output }
    }

    fn pid(&self) -> Pid {
        let pid = self.child.id().expect("it runs");
        Pid::from_raw(pid.cast_signed()).expect("not zero")
    }

    /// The next line that it says.
    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        line.expect("in time").expect("text").expect("it has not ended")
    }

    /// Waits until it is sure of its lock.
    async fn token(&mut self) -> u64 {
        let line = self.line().await;
        let token = line.strip_prefix("holds ").and_then(|token| token.parse().ok());
        token.unwrap_or_else(|| panic!("it said {line:?}"))
    }

    /// Stops it, for certain once this returns.
    fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).expect("it runs");
        let stopped = waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("its state");
        let (_, status) = stopped.expect("a change of its state");
        assert!(status.stopped(), "it ended: {status:?}");
    }

    /// Lets it go on to its write, paused or not.
    async fn go_on(&mut self) {
        self.input.write_all(b"\n").await.expect("it listens");
        kill_process(self.pid(), Signal::CONT).expect("it runs");
    }
}
