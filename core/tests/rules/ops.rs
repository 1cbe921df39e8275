//! Random steps: what clients, streams, operators and time may do, and how a [`World`] does it.
//!
//! Steps name streams and grants by an index into what the world has seen, so that they shrink well. Each step's times
//! carry a few nanoseconds of their own: two deadlines never fall on one instant, where any order would be right.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use ticketlock_core::command::{Command, LockRequest, Renew, Reply, Unlock};
use ticketlock_core::types::{
    DetachCause, EventOptions, Mode, OnDisconnect, Outcome, OutcomeStatus, SameOwner, StreamId, StreamKind, Terms, Time,
};

use crate::world::{Push, World, request, request_id};

const KEYS: [&str; 2] = ["a", "b"];
const OWNERS: [&str; 3] = ["x", "y", "z"];

/// One random step.
#[derive(Clone, Debug)]
pub enum Op {
    Lock(Ask),
    Try(Ask),
    Unlock {
        grant: usize,
        id: Option<u8>,
        right_owner: bool,
        by_token: bool,
        success: bool,
    },
    Renew {
        grant: usize,
        ttl: Option<u16>,
        beat: bool,
    },
    Detach {
        stream: usize,
        cause: DetachCause,
    },
    Force {
        grant: usize,
    },
    Advance {
        millis: u16,
    },
    Stall {
        millis: u16,
    },
    Restart,
}

/// What a request asks for; times in milliseconds.
#[derive(Clone, Debug)]
pub struct Ask {
    key: usize,
    owner: usize,
    id: Option<u8>,
    attach: u64,
    only: bool,
    kind: StreamKind,
    mode: Mode,
    ttl: u16,
    wait: Option<u16>,
    policy: OnDisconnect,
    same_owner: SameOwner,
    delay: u16,
    max_hold: Option<u16>,
    events: bool,
}

/// Steps that come at the deadlines, as a server's do.
pub fn punctual() -> impl Strategy<Value = Op> {
    steps(false)
}

/// Steps at any time, late ones too, and with every optional event.
pub fn wild() -> impl Strategy<Value = Op> {
    prop_oneof![9 => steps(true), 1 => (1..4_000_u16).prop_map(|millis| Op::Stall { millis })]
}

fn steps(events: bool) -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => ask(events).prop_map(Op::Lock),
        2 => ask(events).prop_map(Op::Try),
        4 => (0..6_usize, proptest::option::of(0..5_u8), weighted(9), weighted(6), any::<bool>()).prop_map(
            |(grant, id, right_owner, by_token, success)| Op::Unlock { grant, id, right_owner, by_token, success }
        ),
        3 => (0..6_usize, proptest::option::of(500..5_000_u16), any::<bool>())
            .prop_map(|(grant, ttl, beat)| Op::Renew { grant, ttl, beat }),
        4 => (0..8_usize, prop_oneof![Just(DetachCause::Ended), Just(DetachCause::Silent)])
            .prop_map(|(stream, cause)| Op::Detach { stream, cause }),
        1 => (0..6_usize).prop_map(|grant| Op::Force { grant }),
        6 => (1..2_500_u16).prop_map(|millis| Op::Advance { millis }),
        1 => Just(Op::Restart),
    ]
}

fn weighted(of_ten: u32) -> impl Strategy<Value = bool> {
    (0..10_u32).prop_map(move |roll| roll < of_ten)
}

fn ask(events: bool) -> impl Strategy<Value = Ask> {
    let mode = prop_oneof![
        4 => Just(Mode::Exclusive),
        3 => Just(Mode::Shared),
        3 => (1..4_u32, weighted(9)).prop_map(|(permits, usual)| Mode::Permits {
            permits,
            capacity: if usual { 3 } else { 4 },
        }),
    ];
    let policy = prop_oneof![
        Just(OnDisconnect::Release),
        (500..4_000_u64).prop_map(|millis| OnDisconnect::Grace(Duration::from_millis(millis))),
        Just(OnDisconnect::Lease),
    ];
    let same_owner =
        prop_oneof![3 => Just(SameOwner::Wait), 1 => Just(SameOwner::Reenter), 1 => Just(SameOwner::Refuse)];
    let kind = prop_oneof![Just(StreamKind::Plain), Just(StreamKind::Session)];
    let who = (
        0..KEYS.len(),
        0..OWNERS.len(),
        proptest::option::weighted(0.8, 0..5_u8),
        0..3_u64,
        weighted(1),
        kind,
    );
    let times = (
        500..5_000_u16,
        proptest::option::of(0..4_000_u16),
        prop_oneof![3 => Just(0_u16), 1 => 100..2_000_u16],
        proptest::option::weighted(0.2, 500..5_000_u16),
    );
    (who, mode, policy, same_owner, times).prop_map(move |(who, mode, policy, same_owner, times)| {
        let (key, owner, id, attach, only, kind) = who;
        let (ttl, wait, delay, max_hold) = times;
        // A wait of a few milliseconds is made a try.
        let wait = wait.map(|millis| if millis < 400 { 0 } else { millis });
        Ask {
            key,
            owner,
            id,
            attach,
            only,
            kind,
            mode,
            ttl,
            wait,
            policy,
            same_owner,
            delay,
            max_hold,
            events,
        }
    })
}

impl Ask {
    /// The request, its times made unlike any other step's by `salt`.
    pub fn request(&self, salt: u64) -> LockRequest {
        let millis = |millis: u16, nth: u64| match millis {
            0 => Duration::ZERO,
            millis => Duration::from_millis(u64::from(millis)) + Duration::from_nanos(salt * 8 + nth),
        };
        let terms = Terms {
            request_id: self.id.map(request_id),
            mode: self.mode,
            on_disconnect: match self.policy {
                OnDisconnect::Grace(grace) => OnDisconnect::Grace(grace + Duration::from_nanos(salt * 8 + 2)),
                policy => policy,
            },
            same_owner: self.same_owner,
            wait_timeout: self.wait.map(|wait| millis(wait, 1)),
            lock_delay: millis(self.delay, 3),
            max_hold: self.max_hold.map(|max_hold| millis(max_hold, 4)),
            ..Terms::exclusive(KEYS[self.key], OWNERS[self.owner])
        };
        LockRequest {
            attach_number: self.attach,
            attach_only: self.only,
            ttl: millis(self.ttl, 0),
            events: EventOptions {
                queue_updates: self.events,
                contended: self.events,
                expiring: self.events,
            },
            ..request(terms)
        }
    }
}

/// What a step did.
pub enum Done {
    /// A command, its answer, and what was pushed.
    Command(Box<Command>, Reply, Vec<Push>),
    /// Time passed; at each deadline, this was pushed.
    Time(Vec<(Time, Vec<Push>)>),
    /// The process was restarted.
    Restarted,
    /// There was nothing to do it to.
    Nothing,
}

impl Op {
    /// Does it. `salt` differs from step to step.
    pub fn run(&self, world: &mut World, salt: u64) -> Done {
        world.now = world.now.after(Duration::from_nanos(1_000 + salt));
        let command = match self {
            Self::Advance { millis } => {
                let mut turns = Vec::new();
                let by = Duration::from_millis(u64::from(*millis)) + Duration::from_nanos(salt * 8 + 5);
                world.advance(by, |now, pushes, _| turns.push((now, pushes)));
                return Done::Time(turns);
            }
            Self::Stall { millis } => {
                let pushes = world.stall(Duration::from_millis(u64::from(*millis)));
                return Done::Time(vec![(world.now, pushes)]);
            }
            Self::Restart => {
                world.restart();
                return Done::Restarted;
            }
            _ => self.command(world, salt),
        };
        let Some(command) = command else { return Done::Nothing };
        // What is due comes first, at its own time: so does the model.
        let (reply, pushes) = world.apply(command.clone());
        Done::Command(Box::new(command), reply, pushes)
    }

    fn command(&self, world: &mut World, salt: u64) -> Option<Command> {
        let grant = |index: usize| {
            let recent = world.grants.len().checked_sub(1 + index);
            recent.and_then(|at| world.grants.get(at)).cloned()
        };
        Some(match self {
            Self::Lock(ask) => {
                let stream = world.stream(ask.kind);
                Command::Lock(Box::new(LockRequest {
                    stream: Some(stream),
                    ..ask.request(salt)
                }))
            }
            Self::Try(ask) => {
                let mut request = ask.request(salt);
                Arc::make_mut(&mut request.terms).on_disconnect = OnDisconnect::Lease;
                Command::TryLock(Box::new(request))
            }
            Self::Unlock {
                grant: index,
                id,
                right_owner,
                by_token,
                success,
            } => {
                let grant = grant(*index)?;
                let status = if *success {
                    OutcomeStatus::Success
                } else {
                    OutcomeStatus::Failure
                };
                Command::Unlock(Unlock {
                    key: grant.key,
                    owner: if *right_owner { grant.owner } else { Arc::from("w") },
                    token: by_token.then_some(grant.token),
                    request_id: id.map(request_id),
                    outcome: Outcome {
                        status,
                        ..Outcome::default()
                    },
                })
            }
            Self::Renew {
                grant: index,
                ttl,
                beat,
            } => {
                let grant = grant(*index)?;
                let renew = Renew {
                    key: grant.key,
                    owner: grant.owner,
                    token: grant.token,
                    ttl: ttl.map(|ttl| Duration::from_millis(u64::from(ttl)) + Duration::from_nanos(salt * 8 + 6)),
                };
                if *beat {
                    Command::Refresh(renew)
                } else {
                    Command::Renew(renew)
                }
            }
            Self::Detach { stream, cause } => {
                let (&id, _) = world.streams.iter().nth(stream % world.streams.len().max(1))?;
                let (key, ticket) = world.streams.remove(&id)?;
                Command::Detach {
                    key,
                    ticket,
                    stream: StreamId(id),
                    cause: *cause,
                }
            }
            Self::Force { grant: index } => {
                let grant = grant(*index)?;
                Command::ForceUnlock {
                    key: grant.key,
                    token: grant.token,
                    by: Arc::from("operator"),
                    message: Arc::from("test"),
                }
            }
            Self::Advance { .. } | Self::Stall { .. } | Self::Restart => return None,
        })
    }
}
