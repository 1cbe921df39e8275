//! A command that runs under a lock, seen from `ticketlock lock`: started through the guardian, signalled as a group.

use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::terminal;

/// The guardian has so long to kill the group, before it is done from here.
const GUARDIAN_WITHIN: Duration = Duration::from_millis(20);

/// A running command.
pub struct Job {
    guardian: Child,
    group: Option<Pid>,
    /// Its end, by our own death too, has the guardian kill the group.
    alive: Option<OwnedFd>,
}

impl Job {
    /// Starts `command` with these variables, in a process group of its own, in the foreground if we are there.
    pub fn start(command: &[OsString], variables: &[(&str, String)]) -> anyhow::Result<Self> {
        let (watched, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfd(&watched, FdFlags::empty())?;
        let foreground = terminal::foreground();
        let mut guardian = Command::new(std::env::current_exe().context("cannot find this program")?);
        guardian
            .arg("__guardian")
            .arg(format!("--pipe={}", watched.as_raw_fd()));
        if let Some(group) = foreground {
            guardian.arg(format!("--foreground={}", group.as_raw_nonzero()));
        }
        guardian
            .arg("--")
            .args(command)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .process_group(0);
        let guardian = guardian.spawn().context("cannot start the command")?;
        drop(watched);
        let group = guardian
            .id()
            .and_then(|it| i32::try_from(it).ok())
            .and_then(Pid::from_raw);
        let job = Self {
            guardian,
            group,
            alive: Some(alive),
        };
        if let (Some(_), Some(group)) = (foreground, group) {
            terminal::give_to(group);
            // What read the terminal before it was given was stopped for that.
            job.signal(Signal::CONT);
        }
        Ok(job)
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A group that has ended needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Waits for the command's end.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.guardian.wait().await
    }

    /// Kills the whole group. The guardian does it, since it can give the terminal back; one that cannot is killed.
    pub async fn kill(&mut self) {
        drop(self.alive.take());
        tokio::select! {
            biased;
            _ = self.guardian.wait() => {}
            () = sleep(GUARDIAN_WITHIN) => {}
        }
        self.signal(Signal::KILL);
    }
}
