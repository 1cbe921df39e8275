//! A lock server of a few lines and its clients, whose every step is drawn: it makes histories that are right.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_history::{Event, Mode, Time, Unlocked, What};

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) >> 1).expect("fits") % bound
    }
}

/// What is under way for a client: a message to the server, or from it.
#[derive(Clone, Copy, PartialEq)]
enum Now {
    Idle,
    /// The server does not know of it yet.
    Asking,
    /// In line, and not told so yet.
    InLine,
    Waiting,
    /// Holds, and was not told so yet.
    Granted,
    Holds,
    /// Its unlock is on its way.
    Unlocking,
    /// The unlock's answer is on its way.
    Unlocked,
}

struct Client {
    now: Now,
    request: u64,
    token: u64,
}

/// Far away: leases never end here.
pub const NEVER: Time = Duration::from_secs(1_000_000_000);

pub fn at(step: u64) -> Time {
    Duration::from_micros(step)
}

/// So many steps of so many clients on one key. No two events have the same time.
pub fn history(random: &mut Random, key: &str, clients: usize, steps: u64) -> Vec<Event> {
    let key: Arc<str> = key.into();
    let mut all: Vec<Client> = (0..clients)
        .map(|_| Client {
            now: Now::Idle,
            request: 0,
            token: 0,
        })
        .collect();
    let (mut line, mut held, mut tokens, mut requests) = (VecDeque::new(), false, 0, 0);
    let mut events = Vec::new();
    for step in 1..=steps {
        let index = random.below(clients);
        let client = &mut all[index];
        let what = match client.now {
            Now::Idle => {
                requests += 1;
                client.request = requests;
                client.now = Now::Asking;
                Some(What::Asked(Mode::Exclusive))
            }
            Now::Asking => {
                line.push_back(index);
                client.now = Now::InLine;
                None
            }
            Now::InLine => {
                client.now = Now::Waiting;
                Some(What::Queued)
            }
            Now::Waiting => None,
            Now::Granted => {
                client.now = Now::Holds;
                Some(What::Granted {
                    token: client.token,
                    until: NEVER,
                })
            }
            Now::Holds => {
                client.now = Now::Unlocking;
                Some(What::Unlocking)
            }
            Now::Unlocking => {
                held = false;
                client.now = Now::Unlocked;
                None
            }
            Now::Unlocked => {
                client.now = Now::Idle;
                Some(What::Unlocked(Unlocked::Released))
            }
        };
        if let Some(what) = what {
            events.push(Event {
                at: at(step * 1000),
                key: Arc::clone(&key),
                request: client.request,
                what,
            });
        }
        // The head is granted once it was told that it is in line.
        if let Some(head) = line
            .front()
            .copied()
            .filter(|head| !held && all[*head].now == Now::Waiting)
        {
            line.pop_front();
            tokens += 1;
            held = true;
            all[head].now = Now::Granted;
            all[head].token = tokens;
        }
    }
    events
}
