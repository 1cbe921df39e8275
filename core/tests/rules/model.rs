//! The machine beside the naive model, in random steps: every answer, every push and every view must agree.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ticketlock_core::Config;
use ticketlock_core::command::{Command, ForceReply, Refusal, Reply, TryReply, UnlockReply};
use ticketlock_core::output::Event;
use ticketlock_core::types::{LostReason, Number};

use crate::cases;
use crate::naive::{AWAY_WAIT, Answer, Naive, Told};
use crate::ops::{Done, Op, punctual};
use crate::world::{Push, World};

proptest! {
    #![proptest_config(cases(1_500))]

    /// Whatever clients, streams, operators, time and restarts do, the machine does what the naive model does.
    #[test]
    fn does_what_the_naive_model_does(steps in proptest::collection::vec(punctual(), 1..200)) {
        let mut pair = Pair::new();
        for (salt, op) in (1..).zip(&steps) {
            pair.step(op, salt);
        }
    }
}

/// The machine and its model.
struct Pair {
    world: World,
    naive: Naive,
    /// Which grant of the model each token of the machine is.
    tokens: BTreeMap<Number, usize>,
}

impl Pair {
    fn new() -> Self {
        let config = Config {
            waiters_max: 6,
            claims_max: 3,
            away_wait: AWAY_WAIT,
            ..Config::default()
        };
        let naive = Naive {
            waiters_max: config.waiters_max as usize,
            claims_max: config.claims_max as usize,
            ..Naive::default()
        };
        Self {
            world: World::new(config),
            naive,
            tokens: BTreeMap::new(),
        }
    }

    fn step(&mut self, op: &Op, salt: u64) {
        let done = op.run(&mut self.world, salt);
        match done {
            Done::Nothing => {}
            Done::Time(turns) => {
                for (now, pushes) in turns {
                    self.naive.turn(now);
                    self.learn();
                    self.compare_pushes(pushes);
                }
            }
            Done::Restarted => {
                self.naive.now = self.world.now;
                self.naive.restart();
                self.world.advance(std::time::Duration::ZERO, |_, _, _| {});
                self.naive.told.clear();
            }
            Done::Command(command, reply, pushes) => {
                self.naive.turn(self.world.now);
                let expected = self.answer(&command);
                self.learn();
                let got = self.translate_reply(reply);
                assert_eq!(got, expected, "the answer to {command:?}");
                self.compare_pushes(pushes);
            }
        }
        // What the step made due.
        let mut turns = Vec::new();
        self.world
            .advance(std::time::Duration::ZERO, |_, pushes, _| turns.extend(pushes));
        self.naive.turn(self.world.now);
        self.learn();
        self.compare_pushes(turns);
        self.compare_views();
    }

    fn answer(&mut self, command: &Command) -> Answer {
        let grant = |token: Option<Number>| token.map(|token| self.tokens[&token]);
        match command {
            Command::Lock(request) => self.naive.lock(request),
            Command::TryLock(request) => self.naive.try_lock(request),
            Command::Unlock(unlock) => {
                let grant = grant(unlock.token);
                self.naive.unlock(unlock, grant)
            }
            Command::Renew(renew) | Command::Refresh(renew) => {
                let grant = self.tokens[&renew.token];
                self.naive.renew(renew, grant, matches!(command, Command::Renew(_)))
            }
            Command::Detach { stream, cause, .. } => self.naive.detach(*stream, *cause),
            Command::ForceUnlock {
                key,
                token,
                by,
                message,
            } => {
                let grant = self.tokens[token];
                let (by, message) = (by.clone(), message.clone());
                self.naive.force(key, grant, LostReason::Revoked { by, message })
            }
        }
    }

    /// New tokens are the model's new grants, key by key in their order: tokens of a key grow.
    fn learn(&mut self) {
        let keys: Vec<_> = self.naive.grants.clone();
        for key in ["a", "b"] {
            let of_model = (0..keys.len()).filter(|grant| *keys[*grant] == *key);
            let of_machine = self.world.grants.iter().filter(|grant| *grant.key == *key);
            self.tokens.extend(of_machine.map(|grant| grant.token).zip(of_model));
        }
    }

    fn grant(&self, token: Number) -> usize {
        self.tokens.get(&token).copied().unwrap_or(usize::MAX)
    }

    fn translate_reply(&self, reply: Reply) -> Answer {
        let denied = |refusal| {
            Answer::Denied(match refusal {
                Refusal::LockBySelf { .. } => "by self",
                Refusal::CapacityMismatch { .. } => "capacity",
                Refusal::ModeMismatch => "mode",
                Refusal::RequestIdReused => "reused",
                Refusal::RequestIdRequired => "id required",
                Refusal::QueueFull { .. } => "full",
                Refusal::TooManyClaims { .. } => "claims",
                Refusal::Superseded => "superseded",
            })
        };
        match reply {
            Reply::Lock(Ok(ticket)) => Answer::Attached(ticket.is_some()),
            Reply::TryLock(Ok(TryReply::Granted(granted))) => Answer::Granted {
                grant: self.grant(granted.token),
            },
            Reply::TryLock(Ok(TryReply::Refused { reason, .. })) => Answer::Refused(reason),
            Reply::Unlock(Ok(UnlockReply::Released { claims })) => Answer::Released {
                claims: claims as usize,
            },
            Reply::Unlock(Ok(UnlockReply::Cancelled)) => Answer::Cancelled,
            Reply::Unlock(Ok(UnlockReply::AlreadyReleased { ended_by })) => Answer::AlreadyReleased(ended_by),
            Reply::Unlock(Ok(UnlockReply::NotFound)) => Answer::NotFound,
            Reply::Unlock(Ok(UnlockReply::LockByOther)) => Answer::LockByOther,
            Reply::Lock(Err(refusal)) | Reply::TryLock(Err(refusal)) | Reply::Unlock(Err(refusal)) => denied(refusal),
            Reply::Renew(left) => Answer::Renewed(left),
            Reply::ForceUnlock(ForceReply::Revoked { .. }) => Answer::Revoked,
            Reply::ForceUnlock(ForceReply::AlreadyReleased) => Answer::AlreadyReleased(None),
            Reply::ForceUnlock(ForceReply::NotFound) => Answer::NotFound,
            Reply::Done => Answer::Done,
        }
    }

    /// Each stream is told the same in the same order; between streams any order is right. What is told on request
    /// (`Contended`, `Expiring`, a changed place) is left to the scripts.
    fn compare_pushes(&mut self, pushes: Vec<Push>) {
        let translated = pushes
            .into_iter()
            .filter_map(|(stream, event)| Some((stream, self.translate(event)?)));
        let mut got: Vec<(u64, Told)> = translated.collect();
        let mut expected = std::mem::take(&mut self.naive.told);
        got.sort_by_key(|(stream, _)| *stream);
        expected.sort_by_key(|(stream, _)| *stream);
        assert_eq!(got, expected, "what is pushed");
    }

    fn translate(&self, event: Event) -> Option<Told> {
        Some(match event {
            Event::Queued(queued) => Told::Queued {
                position: queued.position as usize,
                holders: queued.holders as usize,
            },
            Event::Granted(granted) => Told::Granted {
                grant: self.grant(granted.token),
                lowest: self.grant(granted.lowest_valid),
                ttl: granted.ttl,
                claims: granted.claims as usize,
                waited: granted.waited,
                before: granted.previous_outcome.status,
            },
            Event::Lost { token, reason } => Told::Lost {
                grant: self.grant(token),
                reason,
            },
            Event::Refused { reason, .. } => Told::Refused(reason),
            Event::Unlocked => Told::Unlocked,
            Event::Superseded => Told::Superseded,
            Event::Contended { .. } | Event::Expiring { .. } => return None,
        })
    }

    fn compare_views(&self) {
        for key in ["a", "b"] {
            let view = self.world.shard.get(key, 100, self.world.now);
            let holders: Vec<_> = view
                .holders
                .iter()
                .map(|holder| (self.grant(holder.token), holder.claims as usize))
                .collect();
            let expected = self.naive.holders(key).into_iter().map(|at| {
                let ticket = &self.naive.tickets[at];
                (ticket.hold.as_ref().unwrap().grant, ticket.claims.len())
            });
            assert_eq!(holders, expected.collect::<Vec<_>>(), "the holders of {key}");
            let waiters = view
                .waiters
                .iter()
                .map(|waiter| (waiter.terms.owner.clone(), waiter.terms.mode, waiter.connected));
            let expected = self.naive.line(key).into_iter().map(|at| {
                let ticket = &self.naive.tickets[at];
                (ticket.owner.clone(), ticket.mode, ticket.connected())
            });
            assert_eq!(
                waiters.collect::<Vec<_>>(),
                expected.collect::<Vec<_>>(),
                "the line of {key}"
            );
            let outcome = self.naive.outcomes.get(key).map(|(status, _)| *status);
            assert_eq!(
                view.pending_outcome.map(|outcome| outcome.status),
                outcome,
                "the outcome kept on {key}"
            );
            let delayed = self.naive.ghosts.iter().any(|ghost| *ghost.0 == *key);
            assert_eq!(view.lock_delay_left.is_some(), delayed, "the lock-delay on {key}");
        }
    }
}
