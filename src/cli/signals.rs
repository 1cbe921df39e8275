//! The signals that ask a program to stop, as one stream.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix;

/// Listens from its making on; without it these signals would end the process.
pub struct Stops {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    quit: unix::Signal,
}

impl Stops {
    /// Begins to listen.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(unix::SignalKind::interrupt())?,
            terminate: unix::signal(unix::SignalKind::terminate())?,
            hangup: unix::signal(unix::SignalKind::hangup())?,
            quit: unix::signal(unix::SignalKind::quit())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.quit.recv() => Signal::QUIT,
        }
    }
}

/// 128+n.
pub fn exit_code(signal: Signal) -> u8 {
    u8::try_from((128 + signal.as_raw()) & 0xff).unwrap_or(1)
}
