//! What all parts of a running service share, and the tasks that it starts.
//!
//! Tasks belong to the runtime and never to a client: a commit or a take that has begun is carried to its end, whoever
//! goes away meanwhile.

use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::types::{DetachCause, StreamId, Time};
use ticketlock_core::{Output, Shard};

use super::batch::{Outcome, Told};
use super::clock::Clock;
use super::error::ServiceError;
use super::ids::IdSource;
use super::inbox::Inbox;
use super::observer::Observer;
use super::outbox::Outbox;
use super::slot::{Open, Phase, Slot, State};
use crate::config::ServerConfig;
use crate::store::Store;
use crate::sync::{AtomicBool, AtomicU64, DashMap, Handle, Notify, Ordering, watch};

/// What all parts share.
pub(super) struct Runtime {
    /// Where records are kept.
    pub(super) store: Arc<dyn Store>,
    /// How the server runs.
    pub(super) config: Arc<ServerConfig>,
    /// The only source of time.
    pub(super) clock: Clock,
    /// The only source of randomness.
    pub(super) ids: IdSource,
    /// Counters and logs.
    pub(super) observer: Arc<dyn Observer>,
    /// By number.
    pub(super) slots: Vec<Slot>,
    /// The registry of live streams.
    pub(super) streams: DashMap<StreamId, Arc<Outbox>>,
    /// Open sessions, told when the server stops.
    pub(super) sessions: DashMap<u64, Arc<Inbox>>,
    /// Rings when a stream has gone while the server drains.
    pub(super) stream_gone: Notify,
    /// Identity of this run.
    pub(super) boot_id: [u8; 16],
    /// No new tickets are taken.
    pub(super) draining: AtomicBool,
    /// Rings when somebody asks the server to end.
    pub(super) end_asked: Notify,
    /// All shards are closed; tasks end.
    pub(super) closed: watch::Sender<bool>,
    /// The last stream or watcher number given.
    last_number: AtomicU64,
    /// Where tasks run, known so that a stream can be dropped anywhere.
    tasks: Handle,
}

impl Runtime {
    /// Nothing taken yet. Must be called within a tokio runtime.
    pub(super) fn new(
        store: Arc<dyn Store>,
        config: Arc<ServerConfig>,
        clock: Clock,
        ids: IdSource,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let now = clock.now();
        Self {
            slots: (0..config.shards.get()).map(|number| Slot::new(number, now)).collect(),
            streams: DashMap::default(),
            sessions: DashMap::default(),
            stream_gone: Notify::new(),
            boot_id: ids.draw_id(),
            draining: AtomicBool::new(false),
            end_asked: Notify::new(),
            closed: watch::channel(false).0,
            last_number: AtomicU64::new(0),
            tasks: Handle::current(),
            store,
            config,
            clock,
            ids,
            observer,
        }
    }

    /// A number that was never given before: names a stream or a watcher.
    pub(super) fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The slot of a shard.
    ///
    /// # Panics
    /// Where there is no such shard: numbers come from [`ticketlock_core::sharding`] alone.
    pub(super) fn slot(&self, shard: u32) -> &Slot {
        let index = usize::try_from(shard).unwrap_or(usize::MAX);
        match self.slots.get(index) {
            Some(slot) => slot,
            None => unreachable!("there is no shard {shard}"),
        }
    }

    /// A client's step: may be shed, and panics where a test planted that.
    pub(super) fn command<T: Send + 'static>(
        self: &Arc<Self>,
        key: &str,
        act: impl FnOnce(&mut Shard, Time, &mut Output) -> T,
        settle: impl FnOnce(&Result<T, ServiceError>, Told) + Send + 'static,
    ) -> Outcome<T> {
        let slot = self.slot(self.config.shards.shard_of(key));
        let mut state = slot.state.lock();
        if let Err(error) = self.admit(&state) {
            let answer = Err(error);
            settle(&answer, Told::default());
            return Outcome::Now(answer);
        }
        let planted = self.config.plant_panic_key.as_deref() == Some(key);
        let act = |shard: &mut Shard, now: Time, out: &mut Output| {
            assert!(!planted, "a planted panic");
            act(shard, now, out)
        };
        slot.step_in(self, &mut state, act, settle)
    }

    /// Bound: steps that wait for a commit. Detaches and timers are never shed.
    fn admit(&self, state: &State) -> Result<(), ServiceError> {
        let held_max = self.config.limits.held_per_shard_max;
        match &state.phase {
            Phase::Open(open) if open.held() >= held_max => Err(ServiceError::LimitReached {
                reason: "SHARD_BUSY",
                limit: u64::try_from(held_max).unwrap_or(u64::MAX),
            }),
            _ => Ok(()),
        }
    }

    /// Carries something out in a task of its own.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Ends the locks of a session whose client does not read, in a task of its own: who found out holds a shard. As
    /// nothing was heard of the client, what it may count is kept.
    pub(super) fn let_go(self: &Arc<Self>, inbox: Arc<Inbox>) {
        let runtime = Arc::clone(self);
        self.spawn(async move {
            let of_session = |outbox: &Arc<Outbox>| outbox.inbox().is_some_and(|of| Arc::ptr_eq(&of, &inbox));
            let streams = runtime.streams.iter().map(|entry| Arc::clone(entry.value()));
            let streams: Vec<_> = streams.filter(of_session).collect();
            for outbox in streams {
                super::stream::end(&runtime, &outbox, || DetachCause::Silent);
            }
        });
    }

    /// Starts the shard's timer.
    pub(super) fn start_timer(self: &Arc<Self>, shard: u32) {
        let runtime = Arc::clone(self);
        self.tasks
            .spawn(async move { super::timer::keep_time(&runtime, shard).await });
    }

    /// Takes a shard again, in a task of its own; after a repeated failure not at once.
    pub(super) fn retake(self: &Arc<Self>, shard: u32, failures: u32) {
        let runtime = Arc::clone(self);
        self.tasks
            .spawn(async move { super::take::retake(&runtime, shard, failures).await });
    }

    /// The pause after so many failures in a row: none after the first.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(2).min(16);
        let pause = self
            .config
            .retake_first
            .saturating_mul(1 << doublings)
            .min(self.config.retake_max);
        if failures < 2 {
            Duration::ZERO
        } else {
            self.ids.jitter(pause)
        }
    }

    /// Whether the server is about to stop.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Whether a shard's rules may be opened: not after the end.
    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// A stream has ended: nothing more is pushed to it.
    pub(super) fn forget(&self, stream: StreamId) {
        self.streams.remove(&stream);
        if self.is_draining() {
            self.stream_gone.notify_waiters();
        }
    }

    /// Puts an opened shard into its slot.
    pub(super) fn install(&self, state: &mut State, open: Open) {
        state.incarnation += 1;
        state.phase = Phase::Open(Box::new(open));
    }
}
