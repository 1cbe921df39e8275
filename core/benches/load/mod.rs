//! A shard under a steady load, driven as a server drives it: one output for all steps, emptied in between, and
//! `pushed` after each.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::command::{Command, LockRequest, Reply, Unlock, UnlockReply};
use ticketlock_core::output::{Effect, Event};
use ticketlock_core::record::Records;
use ticketlock_core::types::{
    EventOptions, Number, OnDisconnect, Outcome, RequestId, Stream, StreamId, StreamKind, Terms, Time,
};
use ticketlock_core::{Config, Output, Shard};

/// Who asks: it decides which deadlines a ticket has.
#[derive(Clone, Copy)]
pub enum Client {
    /// RELEASE on a stream of its own: no deadline, neither in line nor as a holder.
    Plain,
    /// GRACE on a session, with a wait timeout: a deadline in line, an acknowledgement, and a lease.
    Session,
    /// LEASE: only the lease ends it.
    Lease,
}

impl Client {
    /// The clients whose pairs and hand-offs are measured.
    pub const MEASURED: [Self; 2] = [Self::Plain, Self::Session];

    /// As it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Session => "session",
            Self::Lease => "lease",
        }
    }

    fn terms(self) -> (StreamKind, OnDisconnect, Option<Duration>) {
        match self {
            Self::Plain => (StreamKind::Plain, OnDisconnect::Release, None),
            Self::Session => (
                StreamKind::Session,
                OnDisconnect::Grace(Duration::from_secs(10)),
                Some(Duration::from_secs(600)),
            ),
            Self::Lease => (StreamKind::Plain, OnDisconnect::Lease, None),
        }
    }
}

impl FromStr for Client {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::MEASURED.into_iter().find(|client| client.name() == name);
        found.ok_or_else(|| format!("no such client: {name}"))
    }
}

/// One shard and whoever uses it.
pub struct Load {
    shard: Shard,
    out: Output,
    now: Time,
    /// The key that pairs and hand-offs are about.
    key: Arc<str>,
    owner: Arc<str>,
    /// Tickets taken so far: it makes request ids and streams.
    requests: u64,
    /// The token that was granted last on `key`.
    token: Number,
}

impl Load {
    fn new() -> Self {
        Self {
            shard: Shard::recover(Config::default(), Records::default(), Time(1)),
            out: Output::default(),
            now: Time(1),
            key: Arc::from("images/hot"),
            owner: Arc::from("node-17/worker-3"),
            requests: 0,
            token: 0,
        }
    }

    /// A shard with so many keys, each held on a lease; `key` is none of them.
    pub fn leased(keys: u32) -> Self {
        let mut load = Self::new();
        for key in 0..keys {
            load.lock(Arc::from(format!("jobs/{key}")), Client::Lease);
        }
        load
    }

    /// A line of this length on `key`, behind a holder.
    pub fn line(client: Client, waiters: u32) -> Self {
        let mut load = Self::new();
        load.lock(Arc::clone(&load.key), client);
        load.token = load.told_token();
        for _ in 0..waiters {
            load.lock(Arc::clone(&load.key), client);
        }
        load
    }

    /// Takes `key`, which is free, and gives it back.
    pub fn pair(&mut self, client: Client) {
        self.lock(Arc::clone(&self.key), client);
        self.token = self.told_token();
        self.unlock();
    }

    /// The holder unlocks, the next in line is granted, and a new ticket joins the tail: the length stays.
    pub fn hand_off(&mut self, client: Client) {
        self.unlock();
        self.token = self.told_token();
        self.lock(Arc::clone(&self.key), client);
    }

    /// Lets every lease run out, in as many turns as it takes.
    pub fn expire_all(&mut self) {
        // Every lease is due then, and the turn is not so late that it counts as a stall.
        let due = self.shard.next_deadline().unwrap_or(self.now);
        self.now = due.after(Duration::from_millis(500));
        while self.shard.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.empty_output();
            self.shard.expire_due(self.now, &mut self.out);
            self.shard.pushed(&self.out.granted, self.now);
        }
        assert_eq!(self.holders(), 0, "leases are left");
    }

    /// Tickets that wait.
    pub fn waiters(&self) -> u64 {
        self.shard.totals().waiters
    }

    /// Tickets that hold.
    pub fn holders(&self) -> u64 {
        self.shard.totals().holders
    }

    fn lock(&mut self, key: Arc<str>, client: Client) {
        self.requests += 1;
        let (kind, on_disconnect, wait_timeout) = client.terms();
        let request = LockRequest {
            terms: Arc::new(Terms {
                request_id: Some(RequestId(u128::from(self.requests).to_be_bytes())),
                wait_timeout,
                on_disconnect,
                ..Terms::exclusive(key, Arc::clone(&self.owner))
            }),
            attach_number: 0,
            attach_only: false,
            stream: Some(Stream {
                id: StreamId(self.requests),
                kind,
            }),
            ttl: Duration::from_secs(30),
            events: EventOptions::default(),
        };
        let reply = self.step(Command::Lock(Box::new(request)));
        assert!(
            matches!(reply, Reply::Lock(Ok(Some(_)))),
            "a lock was refused: {reply:?}"
        );
    }

    fn unlock(&mut self) {
        let unlock = Unlock {
            key: Arc::clone(&self.key),
            owner: Arc::clone(&self.owner),
            token: Some(self.token),
            request_id: None,
            outcome: Outcome::default(),
        };
        let reply = self.step(Command::Unlock(unlock));
        assert!(
            matches!(reply, Reply::Unlock(Ok(UnlockReply::Released { .. }))),
            "an unlock did nothing: {reply:?}"
        );
    }

    fn step(&mut self, command: Command) -> Reply {
        self.empty_output();
        self.now = self.now.after(Duration::from_nanos(100));
        let reply = self.shard.apply(command, self.now, &mut self.out);
        self.shard.pushed(&self.out.granted, self.now);
        reply
    }

    fn empty_output(&mut self) {
        self.out.changes.clear();
        self.out.effects.clear();
        self.out.granted.clear();
    }

    /// The token that the last step told its stream, as a client learns it.
    fn told_token(&self) -> Number {
        let mut told = self.out.effects.iter().filter_map(|effect| match effect {
            Effect::Push {
                event: Event::Granted(granted),
                ..
            } => Some(granted.token),
            _ => None,
        });
        let Some(token) = told.next() else {
            unreachable!("nobody was granted: {:?}", self.out)
        };
        token
    }
}
