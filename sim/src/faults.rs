//! What goes wrong in a run, when, and for how long: all drawn from its seed.

use std::fmt;
use std::time::Duration;

use ticketlock_verify::Random;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server's machine loses its power, and what was not synced with it.
    PowerLoss,
    /// The same in the middle of a commit, after so many writes.
    PowerLossAfter(u64),
    /// A sync fails: the server ends, and is started again.
    SyncFails,
    /// A write fails: the same.
    WriteFails,
    /// No space is left on the disk.
    DiskFull,
    /// A commit takes up to two seconds.
    DiskSlow,
    /// The server is ended in good order, and started again.
    Restart,
    /// Packets between a client and the server are lost.
    Partition(u32),
    /// Packets from the server to a client are lost.
    Deaf(u32),
    /// Packets from a client to the server are lost.
    Mute(u32),
    /// Packets between a client and the server are late.
    Slow(u32),
    /// A client's process is killed, and another one is started.
    Killed(u32),
    /// A client's machine sleeps: its clock goes on, nothing else does.
    Suspended(u32),
}

/// One of them, at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it begins.
    pub at: Duration,
    /// Until it is mended.
    pub lasts: Duration,
    /// What.
    pub kind: Kind,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at {:?} for {:?}: {:?}", self.at, self.lasts, self.kind)
    }
}

/// A plan for so long, in the order of time. A client is struck by one fault at a time, and so is the server, unless it
/// is to be spared.
#[must_use]
pub fn plan(random: &Random, clients: u32, spare_server: bool, span: Duration) -> Vec<Fault> {
    let mut plan = Vec::new();
    for victim in u32::from(spare_server)..=clients {
        let mut at = random.shorter(span / 2);
        while at < span {
            let fault = match victim.checked_sub(1) {
                None => server_fault(random, at),
                Some(client) => client_fault(random, client, at),
            };
            plan.push(fault);
            // Some time in order between two, sometimes next to none.
            at += fault.lasts + random.shorter(span / 3) + Duration::from_millis(1);
        }
    }
    plan.sort_by_key(|fault| fault.at);
    plan
}

fn server_fault(random: &Random, at: Duration) -> Fault {
    let kind = match random.below(12) {
        0..=2 => Kind::PowerLoss,
        3..=5 => Kind::PowerLossAfter(random.below(30)),
        6 => Kind::SyncFails,
        7 => Kind::WriteFails,
        8 => Kind::DiskFull,
        9 | 10 => Kind::DiskSlow,
        _ => Kind::Restart,
    };
    let lasts = random.shorter(Duration::from_secs(3));
    Fault { at, lasts, kind }
}

fn client_fault(random: &Random, client: u32, at: Duration) -> Fault {
    let kind = match random.below(8) {
        0 | 1 => Kind::Partition(client),
        2 => Kind::Deaf(client),
        3 => Kind::Mute(client),
        4 => Kind::Slow(client),
        5 | 6 => Kind::Killed(client),
        _ => Kind::Suspended(client),
    };
    // Mostly short; sometimes longer than leases and keep-alive times.
    let longest = if random.below(4) == 0 { 8 } else { 1 };
    let lasts = random.shorter(Duration::from_secs(longest));
    Fault { at, lasts, kind }
}
