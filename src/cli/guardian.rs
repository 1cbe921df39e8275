//! The process between `ticketlock lock` and its command, leader of the command's process group.
//!
//! It reads a pipe that `ticketlock lock` never writes to: its end means that `ticketlock lock` is gone, however that
//! came, or wants the command gone. Then the whole group is killed, this process included. Being in the group that the
//! terminal's signals go to, it lets them pass and passes on what the command ends with.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use rustix::process::{Pid, Signal, getpgrp, kill_process_group};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::{args, exit, signals, terminal};

/// On one thread: it has little to do, and there is one for each running command.
pub fn main(args: args::Guardian) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(args))
}

/// Runs the command, and ends as it ends.
async fn run(args: args::Guardian) -> anyhow::Result<ExitCode> {
    // The inherited number becomes an owned file by opening it anew.
    let pipe = File::open(format!("/dev/fd/{}", args.pipe))?;
    let foreground = args.foreground.and_then(Pid::from_raw);
    // Handlers are not inherited, so the command meets every signal by its default.
    let mut stops = signals::Stops::listen()?;
    let mut suspend = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    watch(pipe, foreground)?;
    let Some((program, arguments)) = args.command.split_first() else {
        return Ok(ExitCode::from(2));
    };
    let mut child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            give_back(foreground);
            let _ = writeln!(
                std::io::stderr().lock(),
                "ticketlock: {}: {error}",
                program.to_string_lossy()
            );
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return Ok(ExitCode::from(if missing {
                exit::NOT_FOUND
            } else {
                exit::NOT_EXECUTABLE
            }));
        }
    };
    let status = loop {
        tokio::select! {
            biased;
            status = child.wait() => break status?,
            // The group got it, too: the command decides what it means.
            _ = stops.next() => {}
            // Nobody could wake up a stopped command, and its lock would go on.
            _ = suspend.recv() => {
                let _ = kill_process_group(getpgrp(), Signal::CONT);
            }
        }
    };
    give_back(foreground);
    Ok(ExitCode::from(exit::of_status(status)))
}

/// Waits, on a thread that nothing holds up, for the end of the pipe.
fn watch(mut pipe: File, foreground: Option<Pid>) -> std::io::Result<()> {
    std::thread::Builder::new().name("pipe".to_owned()).spawn(move || {
        let mut byte = [0];
        while let Ok(1) = pipe.read(&mut byte) {}
        // Order: a killed process gives no terminal back.
        give_back(foreground);
        let _ = kill_process_group(getpgrp(), Signal::KILL);
    })?;
    Ok(())
}

/// Only a process in the foreground may change it, and that is this group for as long as the command runs.
fn give_back(foreground: Option<Pid>) {
    if let Some(group) = foreground {
        terminal::give_to(group);
    }
}
