//! A shard under a steady load, driven as a server drives it: one output for all steps, emptied in between.

use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::command::{Command, LockRequest, Reply, Unlock};
use ticketlock_core::record::Records;
use ticketlock_core::types::{
    EventOptions, Mode, Number, OnDisconnect, Outcome, RequestId, SameOwner, Stream, StreamId, StreamKind, Time,
};
use ticketlock_core::{Config, Output, Shard};

/// One shard and whoever uses it.
pub struct Load {
    shard: Shard,
    out: Output,
    now: Time,
    owner: Arc<str>,
    requests: u128,
}

impl Load {
    /// An empty shard.
    pub fn new() -> Self {
        let config = Config {
            waiters_max: 200_000,
            ..Config::default()
        };
        Self {
            shard: Shard::recover(config, Records::default(), Time(1)),
            out: Output::default(),
            now: Time(1),
            owner: Arc::from("node-17/worker-3"),
            requests: 0,
        }
    }

    fn tick(&mut self) {
        self.out.changes.clear();
        self.out.effects.clear();
        self.out.granted.clear();
        self.now = self.now.after(Duration::from_nanos(100));
    }

    /// Takes a ticket; returns its number.
    pub fn lock(&mut self, key: &Arc<str>, on_disconnect: OnDisconnect) -> Number {
        self.tick();
        self.requests += 1;
        let request = LockRequest {
            key: Arc::clone(key),
            owner: Arc::clone(&self.owner),
            request_id: Some(RequestId(self.requests.to_be_bytes())),
            attach_number: 0,
            attach_only: false,
            stream: Some(Stream {
                id: StreamId(self.requests as u64),
                kind: StreamKind::Plain,
            }),
            mode: Mode::Exclusive,
            ttl: Duration::from_secs(30),
            wait_timeout: None,
            on_disconnect,
            same_owner: SameOwner::Wait,
            lock_delay: Duration::ZERO,
            max_hold: None,
            metadata: Arc::from(Vec::new()),
            events: EventOptions::default(),
        };
        let reply = self
            .shard
            .apply(Command::Lock(Box::new(request)), self.now, &mut self.out);
        let Reply::Lock(Ok(Some(ticket))) = reply else {
            unreachable!("a lock was refused: {reply:?}")
        };
        ticket
    }

    /// Ends the hold of this token.
    pub fn unlock(&mut self, key: &Arc<str>, token: Number) {
        self.tick();
        let unlock = Unlock {
            key: Arc::clone(key),
            owner: Arc::clone(&self.owner),
            token: Some(token),
            request_id: None,
            outcome: Outcome::default(),
        };
        self.shard.apply(Command::Unlock(unlock), self.now, &mut self.out);
    }

    /// The token that holds the key.
    pub fn token(&self, key: &Arc<str>) -> Number {
        let view = self.shard.get(key, 0, self.now);
        view.holders.first().map(|holder| holder.token).unwrap_or_default()
    }

    /// A line of this length behind a holder.
    pub fn line(key: &Arc<str>, waiters: u32) -> Self {
        let mut load = Self::new();
        for _ in 0..=waiters {
            load.lock(key, OnDisconnect::Release);
        }
        load
    }

    /// One hand-off: the holder unlocks, the next in line is granted, and a new one joins the tail.
    pub fn hand_off(&mut self, key: &Arc<str>) {
        let token = self.token(key);
        self.unlock(key, token);
        self.lock(key, OnDisconnect::Release);
    }

    /// So many keys, each held on a lease.
    pub fn leased(keys: u32) -> Self {
        let mut load = Self::new();
        for key in 0..keys {
            load.lock(&Arc::from(format!("jobs/{key}")), OnDisconnect::Lease);
        }
        load
    }

    /// Lets every lease run out; returns how many turns that took.
    pub fn expire_all(&mut self) -> u32 {
        let mut turns = 0;
        self.now = self
            .shard
            .next_deadline()
            .unwrap_or(self.now)
            .after(Duration::from_millis(500));
        while self.shard.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.out.changes.clear();
            self.out.effects.clear();
            self.out.granted.clear();
            self.shard.expire_due(self.now, &mut self.out);
            turns += 1;
        }
        assert_eq!(self.shard.totals().holders, 0, "leases are left");
        turns
    }
}
