//! Bytes as steps of one shard: what clients, streams, operators, time and the process may do.
//!
//! Two bytes choose the bounds, small so that every one is met. Each step is a code, then a few bytes of its own, which
//! [`input`] reads.

mod input;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::command::{Command, LockRequest, Renew, Reply, Unlock};
use ticketlock_core::output::Event;
use ticketlock_core::shard::Reattach;
use ticketlock_core::types::{
    DetachCause, EventOptions, OnDisconnect, Outcome, OutcomeStatus, Stream, StreamId, StreamKind, Terms,
};
use ticketlock_core::{Config, Output};

use crate::world::{Grant, Push, World};
use input::{Input, bit, bits, id, key, owner};

/// Bound: a longer input finds nothing that a shorter one does not, and takes longer.
const STEPS_MAX: usize = 64;

/// Does all steps, then lets everything end.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (first, second) = (input.byte(), input.byte());
    let mut driver = Driver {
        world: World::new(Config {
            batch_max: 1 + usize::from(first % 5),
            claims_max: 1 + u32::from(first / 5 % 4),
            ends_max: 1 + usize::from(second % 20),
            waiters_max: 1 + u32::from(second / 20),
            ..Config::default()
        }),
        live: BTreeMap::new(),
    };
    for _ in 0..STEPS_MAX {
        let Some(code) = input.next() else { break };
        driver.step(code, &mut input);
    }
    for key in driver.world.shard.list("", None, 10, 10, driver.world.now) {
        let kept = driver
            .world
            .records
            .outcomes
            .iter()
            .any(|outcome| outcome.key == key.key);
        assert_eq!(key.pending_outcome.is_some(), kept, "an outcome and its record");
    }
    driver.world.drain();
}

struct Driver {
    world: World,
    /// Streams that have not got their last event, as they were attached.
    live: BTreeMap<u64, (Stream, Arc<Terms>, EventOptions)>,
}

impl Driver {
    fn step(&mut self, code: u8, input: &mut Input<'_>) {
        let command = match code % 16 {
            0..=4 => self.lock(input),
            5 => Self::try_lock(input),
            6 | 7 => self.unlock(input),
            8 => Command::Renew(self.renew(input)),
            9 => Command::Refresh(self.renew(input)),
            10 | 11 => {
                let Some(detach) = self.detach(input.byte()) else {
                    return;
                };
                detach
            }
            12 => self.force(input.byte()),
            13 => return self.advance(input.span()),
            14 => {
                let pushes = self.world.stall(input.span());
                return self.told(pushes);
            }
            _ => return self.restart(bit(input.byte(), 0)),
        };
        self.apply(command);
    }

    fn apply(&mut self, command: Command) {
        let asked = match &command {
            Command::Lock(request) => request
                .stream
                .map(|it| (it, Arc::clone(&request.terms), request.events)),
            _ => None,
        };
        let (reply, pushes) = self.world.apply(command);
        if let (Reply::Lock(Ok(Some(_))), Some(asked)) = (reply, asked) {
            self.live.insert(asked.0.id.0, asked);
        }
        self.told(pushes);
    }

    fn told(&mut self, pushes: Vec<Push>) {
        for (stream, event) in pushes {
            if let Event::Lost { .. } | Event::Refused { .. } | Event::Unlocked | Event::Superseded = event {
                self.live.remove(&stream);
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        let mut seen = Vec::new();
        self.world.advance(by, |_, pushes, _| seen.extend(pushes));
        self.told(seen);
    }

    /// Of the process, where every stream is gone; or of the shard alone, where live streams go on.
    fn restart(&mut self, of_the_shard: bool) {
        let streams = std::mem::take(&mut self.world.streams);
        let live = std::mem::take(&mut self.live);
        self.world.restart();
        if !of_the_shard {
            return;
        }
        for (id, asked) in live {
            let Some((key, ticket)) = streams.get(&id).cloned() else {
                continue;
            };
            let (stream, terms, events) = &asked;
            let reattach = Reattach {
                ticket,
                request_id: terms.request_id,
                stream: *stream,
                events: *events,
            };
            let mut out = Output::default();
            if self.world.shard.reattach(reattach, self.world.now, &mut out) {
                self.world.streams.insert(id, (key, ticket));
                self.live.insert(id, asked);
            }
            let pushes = self.world.settle(out);
            self.told(pushes);
        }
    }

    fn lock(&mut self, input: &mut Input<'_>) -> Command {
        let who = input.byte();
        let kind = if bit(who, 6) {
            StreamKind::Session
        } else {
            StreamKind::Plain
        };
        let stream = Some(self.world.stream(kind));
        Command::Lock(Box::new(LockRequest {
            stream,
            ..input.ask(who)
        }))
    }

    /// As on the wire: a try knows LEASE only, and has no stream.
    fn try_lock(input: &mut Input<'_>) -> Command {
        let who = input.byte();
        let mut request = input.ask(who);
        let terms = Arc::make_mut(&mut request.terms);
        terms.on_disconnect = OnDisconnect::Lease;
        terms.wait_timeout = Some(Duration::ZERO);
        request.attach_number = 0;
        request.attach_only = false;
        Command::TryLock(Box::new(request))
    }

    /// One of the latest grants, or one that never was.
    fn grant(&self, index: u8) -> Grant {
        let recent = self.world.grants.iter().rev().nth(index.into()).cloned();
        recent.unwrap_or_else(|| Grant {
            key: key(false).into(),
            owner: owner(0).into(),
            token: 1,
        })
    }

    fn unlock(&self, input: &mut Input<'_>) -> Command {
        let (which, how) = (input.byte(), input.byte());
        let grant = self.grant(bits(which, 0, 3));
        let request_id = id(bits(how, 0, 3));
        let token = grant.token + u64::from(bits(how, 3, 1));
        Command::Unlock(Unlock {
            key: if bit(which, 5) { key(true).into() } else { grant.key },
            owner: if bit(which, 4) { "w".into() } else { grant.owner },
            token: (bit(which, 3) || request_id.is_none()).then_some(token),
            request_id,
            outcome: Outcome {
                status: match bits(which, 6, 2) {
                    1 => OutcomeStatus::Success,
                    2 => OutcomeStatus::Failure,
                    _ => OutcomeStatus::Unspecified,
                },
                ..Outcome::default()
            },
        })
    }

    fn renew(&self, input: &mut Input<'_>) -> Renew {
        let which = input.byte();
        let grant = self.grant(bits(which, 0, 3));
        Renew {
            key: grant.key,
            owner: if bit(which, 4) { "w".into() } else { grant.owner },
            token: grant.token,
            ttl: bit(which, 3).then(|| input.lease()),
        }
    }

    fn detach(&mut self, which: u8) -> Option<Command> {
        let nth = usize::from(bits(which, 0, 7)) % self.world.streams.len().max(1);
        let (&stream, _) = self.world.streams.iter().nth(nth)?;
        let (key, ticket) = self.world.streams.remove(&stream)?;
        self.live.remove(&stream);
        let cause = if bit(which, 7) {
            DetachCause::Silent
        } else {
            DetachCause::Ended
        };
        let stream = StreamId(stream);
        Some(Command::Detach {
            key,
            ticket,
            stream,
            cause,
        })
    }

    fn force(&self, which: u8) -> Command {
        let grant = self.grant(bits(which, 0, 3));
        Command::ForceUnlock {
            key: grant.key,
            token: grant.token,
            by: "operator".into(),
            message: "fuzz".into(),
        }
    }
}
