//! The terminal: whether there is one, who is in its foreground, and the line that shows the place in the queue.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};

use rustix::process::Pid;
use ticketlock_client::{Queued, WaitReason};

/// The process group to give the terminal back to, if this process has the terminal to give away: both ends of it are
/// ours, so that no other part of a pipeline is put in the background.
pub fn foreground() -> Option<Pid> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return None;
    }
    let own = rustix::process::getpgrp();
    let present = rustix::termios::tcgetpgrp(open()?).ok()?;
    (present == own).then_some(own)
}

/// Puts a group in the foreground. Allowed only to a process that is there itself.
pub fn give_to(group: Pid) {
    if let Some(terminal) = open() {
        // Without it the command runs in the background, which most commands do not mind.
        let _ = rustix::termios::tcsetpgrp(terminal, group);
    }
}

fn open() -> Option<File> {
    File::options().read(true).write(true).open("/dev/tty").ok()
}

/// Draws the place in line over what it drew before.
pub fn draw_place(key: &str, queued: &Queued) {
    let place = match (queued.position, queued.reason) {
        (_, WaitReason::LockDelay) => "a lost hold's lock-delay runs".to_owned(),
        (0, _) => "next in line".to_owned(),
        (1, _) => "1 ahead in line".to_owned(),
        (ahead, _) => format!("{ahead} ahead in line"),
    };
    let eta = match queued.eta {
        Some(eta) => format!(
            ", about {}",
            humantime::format_duration(std::time::Duration::from_secs(eta.as_secs()))
        ),
        None => String::new(),
    };
    draw(&format!("waiting for {key}: {place}{eta}"));
}

/// Says over the place in line that it is not known at present.
pub fn draw_absence(key: &str) {
    draw(&format!(
        "waiting for {key}: the way to the server broke, connecting again"
    ));
}

/// Takes the line away.
pub fn clear_place() {
    draw("");
}

fn draw(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{line}");
    let _ = stderr.flush();
}
