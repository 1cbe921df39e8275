//! The real server as a process on a free port, and the command against it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_ticketlock");

/// A running server, killed at the end of its test.
pub struct Server {
    /// Its process.
    pub child: Child,
    /// For `--endpoint`.
    pub endpoint: String,
}

impl Server {
    /// Starts a server on a free port, its locks in memory.
    pub fn start() -> Self {
        Self::with("memory:", "127.0.0.1:0")
    }

    /// Starts a server with this store at this address, and reads where it listens.
    pub fn with(store: &str, listen: &str) -> Self {
        let mut child = Command::new(BINARY)
            .args(["serve", "--store", store, "--listen", listen])
            .args(["--http", "127.0.0.1:0", "--log", "error"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let stdout = child.stdout.take().expect("piped");
        let line = BufReader::new(stdout).lines().next().expect("a line").expect("utf-8");
        let grpc = line
            .split_whitespace()
            .find_map(|it| it.strip_prefix("grpc="))
            .expect("the address")
            .to_owned();
        Self {
            child,
            endpoint: format!("http://{grpc}"),
        }
    }

    /// Killed, and started again at the same address with the same store.
    pub fn killed_and_started(mut self, store: &str) -> Self {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
        Self::with(store, self.endpoint.trim_start_matches("http://"))
    }

    /// Ended by SIGTERM in good order, and started again at the same address with the same store.
    pub fn stopped_and_started(mut self, store: &str) -> Self {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
        let status = self.child.wait().expect("it ended");
        assert!(status.success(), "{status}");
        Self::with(store, self.endpoint.trim_start_matches("http://"))
    }

    /// Ended by an operator's `drain`, and started again at the same address with the same store.
    pub fn drained_and_started(mut self, store: &str) -> Self {
        let drained = self.run(&["drain", "--reason", "a new release"]);
        let said = String::from_utf8_lossy(&drained.stdout);
        assert!(said.contains("is kept for the next server"), "{drained:?}");
        let status = self.child.wait().expect("it ended");
        assert!(status.success(), "{status}");
        Self::with(store, self.endpoint.trim_start_matches("http://"))
    }

    /// `ticketlock` with these arguments, against this server, in an environment of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(args)
            .env("TICKETLOCK_ENDPOINT", &self.endpoint)
            .env_remove("TICKETLOCK_OWNER");
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exit code.
pub fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal ended it")
}
