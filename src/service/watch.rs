//! Following keys: a snapshot per shard, then what happens, without a gap that is not told.
//!
//! A shard puts events into a watcher's bounded buffer while it is locked, and never waits. When the buffer is full, or
//! the shard was made anew, the shard's part begins again with `Resync` and a new snapshot.
//!
//! A snapshot is read in pages, each as a step of the shard, so that no page holds a shard for long. Between two pages
//! events go on: a key's page says its whole state at that point of the order, so whoever applies both in order is
//! right.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ticketlock_core::output::{Happening, KeyView};

use super::batch::Told;
use super::error::ServiceError;
use super::runtime::Runtime;
use super::slot::Phase;
use crate::sync::Mutex;

/// Keys per page of a snapshot.
const PAGE: usize = 64;
/// Waiters shown per key of a snapshot; how many there are in all is told.
const WAITERS: usize = 100;

/// A step of a watch; order holds within a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The shard that speaks.
    pub shard: u32,
    /// One incarnation of it.
    pub epoch: u64,
    /// Grows with each happening of the shard within an epoch.
    pub revision: u64,
    /// What it says.
    pub kind: WatchKind,
}

/// What a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// Part of the snapshot.
    Snapshot(KeyView),
    /// The snapshot of this shard is complete.
    SnapshotEnd,
    /// Something happened.
    Changed(Happening),
    /// Forget this shard: a new snapshot follows.
    Resync,
}

/// What a watcher is told; ends with `Draining` when the server stops.
pub struct WatchStream {
    /// Where snapshots come from.
    runtime: Arc<Runtime>,
    /// Known to every shard.
    watcher: Arc<Watcher>,
}

/// The part of a watch that the shards know.
pub(super) struct Watcher {
    /// Which one.
    number: u64,
    /// Keys that begin with this.
    prefix: Arc<str>,
    /// Bound: events in the buffer.
    events_max: usize,
    /// What changes.
    content: Mutex<Content>,
}

/// What changes in a watcher.
struct Content {
    /// Unread.
    buffer: VecDeque<WatchEvent>,
    /// Whom to wake.
    reader: Option<Waker>,
    /// By shard.
    parts: Vec<Part>,
    /// Shards whose next page is to be asked for.
    wanted: BTreeSet<u32>,
    /// It ends with this once `buffer` is read.
    failure: Option<ServiceError>,
    /// The end was told.
    complete: bool,
}

/// How far one shard's part is.
#[derive(Default)]
struct Part {
    /// Where it stands.
    stage: Stage,
    /// Something was told of this shard, so that beginning anew must be told too.
    told: bool,
    /// Counts beginnings: a page that was asked for before the last one is dropped.
    turn: u64,
}

/// Where a shard's part stands.
#[derive(Default)]
enum Stage {
    /// The shard does not answer.
    #[default]
    Absent,
    /// No page has come yet: events are not told, the snapshot will contain them.
    Waiting,
    /// Pages up to this key have come.
    Paging(Arc<str>),
    /// The snapshot is complete.
    Live,
}

impl WatchStream {
    /// Makes a watcher known to every shard.
    pub(super) fn open(runtime: &Arc<Runtime>, prefix: Arc<str>) -> Self {
        let content = Content {
            buffer: VecDeque::new(),
            reader: None,
            parts: runtime.slots.iter().map(|_| Part::default()).collect(),
            wanted: BTreeSet::new(),
            failure: None,
            complete: false,
        };
        let events_max = runtime.config.limits.watch_events_max;
        let watcher = Arc::new(Watcher {
            number: runtime.next_number(),
            prefix,
            events_max,
            content: Mutex::new(content),
        });
        for slot in &runtime.slots {
            let mut state = slot.state.lock();
            match state.phase {
                Phase::Open(_) => watcher.shard_opened(slot.number),
                Phase::Taking { .. } => {}
                Phase::Closed => watcher.end(ServiceError::Draining),
            }
            state.watchers.push(Arc::clone(&watcher));
        }
        Self {
            runtime: Arc::clone(runtime),
            watcher,
        }
    }

    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, ServiceError>> {
        poll_fn(|context| self.poll_event(context)).await
    }

    /// The next event, for those that poll. Pages of snapshots are asked for here, when the buffer is empty: the
    /// reader sets the pace.
    pub fn poll_event(&mut self, context: &Context<'_>) -> Poll<Option<Result<WatchEvent, ServiceError>>> {
        loop {
            match self.watcher.take(context) {
                Turn::Give(item) => return Poll::Ready(item),
                Turn::Wait => return Poll::Pending,
                Turn::Ask { shard, turn, after } => self.ask(shard, turn, after),
            }
        }
    }

    /// Asks a shard for a page; it comes into the buffer, now or after a commit.
    fn ask(&self, shard: u32, turn: u64, after: Option<Arc<str>>) {
        let prefix = Arc::clone(&self.watcher.prefix);
        let watcher = Arc::clone(&self.watcher);
        let outcome = self.runtime.slot(shard).step(
            &self.runtime,
            |rules, now, _| rules.list(&prefix, after.as_deref(), PAGE, WAITERS, now),
            // A page that fails needs no word: the shard tells the watcher when it is gone and when it is back.
            move |views, told| {
                if let Ok(views) = views {
                    watcher.page(shard, turn, told, views);
                }
            },
        );
        drop(outcome);
    }
}

impl futures_core::Stream for WatchStream {
    type Item = Result<WatchEvent, ServiceError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(context)
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        for slot in &self.runtime.slots {
            slot.state
                .lock()
                .watchers
                .retain(|watcher| watcher.number != self.watcher.number);
        }
    }
}

/// What a reader does next.
enum Turn {
    /// Has something, or the end.
    Give(Option<Result<WatchEvent, ServiceError>>),
    /// Asks for a page.
    Ask {
        /// Of this shard.
        shard: u32,
        /// In this turn of it.
        turn: u64,
        /// After this key.
        after: Option<Arc<str>>,
    },
    /// Waits.
    Wait,
}

impl Watcher {
    /// Something happened in a shard.
    pub(super) fn happened(&self, shard: u32, told: Told, happening: &Happening) {
        if !happening.terms.key.starts_with(&*self.prefix) {
            return;
        }
        let mut content = self.content.lock();
        let full = content.buffer.len() >= self.events_max;
        let Some(part) = content.part(shard) else { return };
        match part.stage {
            Stage::Absent | Stage::Waiting => {}
            // Bound: the buffer. What is dropped is told again by a new snapshot.
            Stage::Paging(_) | Stage::Live if full => {
                content.buffer.retain(|event| event.shard != shard);
                content.begin(shard);
            }
            Stage::Paging(_) | Stage::Live => content.put(shard, told, WatchKind::Changed(happening.clone())),
        }
        content.wake();
    }

    /// A shard answers (again): its snapshot is wanted.
    pub(super) fn shard_opened(&self, shard: u32) {
        let mut content = self.content.lock();
        content.begin(shard);
        content.wake();
    }

    /// A shard does not answer any more. What was told by it is committed and stays in the buffer.
    pub(super) fn shard_gone(&self, shard: u32) {
        let mut content = self.content.lock();
        content.wanted.remove(&shard);
        if let Some(part) = content.part(shard) {
            part.stage = Stage::Absent;
            part.turn += 1;
        }
    }

    /// The server stops.
    pub(super) fn end(&self, error: ServiceError) {
        let mut content = self.content.lock();
        content.failure.get_or_insert(error);
        content.wake();
    }

    /// A page of a snapshot leaves the shard.
    fn page(&self, shard: u32, turn: u64, told: Told, views: &[KeyView]) {
        let mut content = self.content.lock();
        let Some(part) = content.part(shard) else { return };
        if part.turn != turn {
            return;
        }
        let first = matches!(part.stage, Stage::Waiting);
        let last_key = views
            .last()
            .filter(|_| views.len() >= PAGE)
            .map(|view| Arc::clone(&view.key));
        let resync = first && part.told;
        part.told = true;
        part.stage = match &last_key {
            Some(key) => Stage::Paging(Arc::clone(key)),
            None => Stage::Live,
        };
        if resync {
            content.put(shard, told, WatchKind::Resync);
        }
        for view in views {
            content.put(shard, told, WatchKind::Snapshot(view.clone()));
        }
        if last_key.is_some() {
            content.wanted.insert(shard);
        } else {
            content.put(shard, told, WatchKind::SnapshotEnd);
        }
        content.wake();
    }

    /// What the reader does next.
    fn take(&self, context: &Context<'_>) -> Turn {
        let mut content = self.content.lock();
        if let Some(event) = content.buffer.pop_front() {
            return Turn::Give(Some(Ok(event)));
        }
        if content.complete {
            return Turn::Give(None);
        }
        if let Some(error) = content.failure.clone() {
            content.complete = true;
            return Turn::Give(Some(Err(error)));
        }
        while let Some(shard) = content.wanted.pop_first() {
            let Some(part) = content.part(shard) else { continue };
            let after = match &part.stage {
                Stage::Waiting => None,
                Stage::Paging(after) => Some(Arc::clone(after)),
                Stage::Absent | Stage::Live => continue,
            };
            return Turn::Ask {
                shard,
                turn: part.turn,
                after,
            };
        }
        content.reader = Some(context.waker().clone());
        Turn::Wait
    }
}

impl Content {
    /// A shard's part.
    fn part(&mut self, shard: u32) -> Option<&mut Part> {
        self.parts.get_mut(usize::try_from(shard).unwrap_or(usize::MAX))
    }

    /// A shard's part begins (anew).
    fn begin(&mut self, shard: u32) {
        if let Some(part) = self.part(shard) {
            part.stage = Stage::Waiting;
            part.turn += 1;
            self.wanted.insert(shard);
        }
    }

    /// Puts an event behind the others.
    fn put(&mut self, shard: u32, told: Told, kind: WatchKind) {
        self.buffer.push_back(WatchEvent {
            shard,
            epoch: told.epoch,
            revision: told.revision,
            kind,
        });
    }

    /// Something can be done.
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
