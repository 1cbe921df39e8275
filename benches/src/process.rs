//! Servers as child processes: started, read for their address, measured for their CPU, ended.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A server that ends with this value.
pub struct Server(Child);

impl Server {
    /// Starts it; its output goes nowhere.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .kill_on_drop(true)
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
        Ok(Self(child))
    }

    /// Starts it, and reads the first line that it prints.
    pub async fn start_and_read(command: &mut Command) -> anyhow::Result<(Self, String)> {
        let mut server = Self::start(command.stdout(std::process::Stdio::piped()))?;
        let stdout = server.0.stdout.take().context("no output")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        Ok((server, line.context("it ended without a word")?))
    }

    /// CPU time that it has used.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let pid = self.0.id().context("it has ended")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // After the name, which may hold spaces: state is field 3, user and system time are 14 and 15, in 1/100 s.
        let (_, rest) = stat.rsplit_once(')').context("an unknown form of /proc/PID/stat")?;
        let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Memory in KiB: `VmRSS` now, `VmHWM` at most so far.
    pub fn resident_kib(&self, field: &str) -> anyhow::Result<f64> {
        let pid = self.0.id().context("it has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("an unknown form of /proc/PID/status")?.parse()?)
    }

    /// Ends it.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.0.kill().await?;
        Ok(())
    }
}

/// A port that is free now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until something listens there.
pub async fn until_listening(port: u16) -> anyhow::Result<()> {
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("nothing listens on port {port} after 30 s")
}

/// A program, unpacked under `servers` or installed, with the libraries that were unpacked with it.
pub fn program(servers: Option<&Path>, name: &str) -> Command {
    let Some(servers) = servers else {
        return Command::new(name);
    };
    let found = ["usr/bin", "usr/sbin"].map(|folder| servers.join(folder).join(name));
    let path = found.into_iter().find(|path| path.exists());
    let mut command = Command::new(path.unwrap_or_else(|| name.into()));
    command.env(
        "LD_LIBRARY_PATH",
        servers
            .join("usr/lib")
            .join(format!("{}-linux-gnu", std::env::consts::ARCH)),
    );
    command
}
