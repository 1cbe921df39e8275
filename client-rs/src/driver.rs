//! One task per ticket. It owns the ticket's stream, reads it to its end, and never drops it early: a ticket is
//! cancelled, and a grant that comes too late is given back, by `Unlock` with the request id.
//!
//! The caller's end is a [`Hold`]; it sends [`Command`]s and reads the view that is written here. What happens once
//! the lock is held is in [`held`].

mod held;

use std::sync::Arc;
use std::time::Duration;

use ticketlock_proto::v1;
use ticketlock_proto::v1::lock_response::Event;
use ticketlock_proto::v1::lock_service_client::LockServiceClient;
use ticketlock_proto::v1::try_lock_response;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use crate::client::Inner;
use crate::guard::{End, Grant, Hold};
use crate::lock::Ask;
use crate::pool::Place;
use crate::types::{LostReason, Outcome, RefusedReason, UnlockResult, Unlocked};
use crate::view::Writer;
use crate::{Error, convert, runtime, view};

/// A stream that has nothing more to tell is expected to end within this.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// An unlock that gets no answer is tried again for so long.
const UNLOCK_WITHIN: Duration = Duration::from_secs(10);

/// What the caller's end asks for.
pub(crate) enum Command {
    /// Leave the line, or give the lock back.
    GiveBack {
        /// For the next holder.
        outcome: Outcome,
        /// Who waits for the answer.
        reply: Option<oneshot::Sender<Result<Unlocked, Error>>>,
        /// Counts this until it is done.
        leaving: Leaving,
    },
    /// Give it back, for the client is closed.
    Close(Leaving),
    /// Leave the hold to its lease.
    Detach {
        /// Told when nothing is renewed here any more.
        reply: oneshot::Sender<()>,
    },
}

/// One lock that is being given back; [`crate::Client::flush`] waits until there is none.
pub(crate) struct Leaving(Arc<Inner>);

impl Leaving {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        inner.leaving.send_modify(|count| *count += 1);
        Self(Arc::clone(inner))
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leaving.send_modify(|count| *count -= 1);
    }
}

/// The tasks of a client, for its end.
#[derive(Default)]
pub(crate) struct Drivers {
    inboxes: Vec<mpsc::WeakUnboundedSender<Command>>,
    /// How many there may be before those that have ended are looked for.
    room: usize,
    /// No more locks are taken.
    shut: bool,
}

impl Drivers {
    /// Whether it may run.
    fn admit(&mut self, commands: &mpsc::UnboundedSender<Command>) -> bool {
        if self.shut {
            return false;
        }
        if self.inboxes.len() >= self.room {
            self.inboxes.retain(|it| it.strong_count() > 0);
            self.room = 2 * self.inboxes.len() + 16;
        }
        self.inboxes.push(commands.downgrade());
        true
    }
}

/// Gives back everything that has a task of its own, and takes no more.
pub(crate) fn release_all(inner: &Arc<Inner>) {
    let inboxes = {
        let mut drivers = inner.drivers();
        drivers.shut = true;
        std::mem::take(&mut drivers.inboxes)
    };
    for commands in inboxes.iter().filter_map(mpsc::WeakUnboundedSender::upgrade) {
        // One that has ended needs nothing.
        let _ = commands.send(Command::Close(Leaving::new(inner)));
    }
}

/// Which call takes the lock.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A ticket, by a stream.
    Lock,
    /// At once or not at all.
    Try,
}

/// Resolves when the lock is granted or refused.
pub(crate) type Granting = oneshot::Receiver<Result<Grant, Error>>;

/// Starts the task of a new ticket.
pub(crate) fn start(inner: Arc<Inner>, ask: Ask, kind: Kind) -> (Hold, Granting) {
    let ask = Arc::new(ask);
    let (commands, inbox) = mpsc::unbounded_channel();
    let (view, seen) = view::new();
    let (granted, granting) = oneshot::channel();
    let driver = Driver {
        inner: Arc::clone(&inner),
        ask: Arc::clone(&ask),
        inbox,
        view,
        store_id: Vec::new(),
        token: 0,
        asked: false,
    };
    let task = async move {
        match kind {
            Kind::Lock => driver.run_lock(granted).await,
            Kind::Try => driver.run_try(granted).await,
        }
    };
    // Not spawned, it answers its caller: the client is closed.
    if inner.drivers().admit(&commands) {
        inner.background.spawn(task);
    }
    (
        Hold {
            inner,
            ask,
            view: seen,
            end: End::Plain(commands),
            detached: false,
        },
        granting,
    )
}

/// A live stream and its place on a connection.
struct Attached {
    stream: Streaming<v1::LockResponse>,
    /// Frees its place when the stream has ended.
    _place: Place,
}

impl Attached {
    /// The next event, `None` at a good end.
    async fn next(&mut self) -> Result<Option<v1::LockResponse>, Error> {
        self.stream.message().await.map_err(Error::from)
    }

    /// Reads to the end what nobody needs any more.
    async fn drain(mut self) {
        let end = async { while let Ok(Some(_)) = self.stream.message().await {} };
        // Past its time the stream is stuck; dropping it is all that is left.
        let _ = timeout(DRAIN_WITHIN, end).await;
    }
}

struct Driver {
    inner: Arc<Inner>,
    ask: Arc<Ask>,
    inbox: mpsc::UnboundedReceiver<Command>,
    view: Writer,
    /// The store that gave the ticket; another one cannot know of it.
    store_id: Vec<u8>,
    /// The token once granted.
    token: u64,
    /// The server may keep something for this request: it must not be left behind.
    asked: bool,
}

impl Drop for Driver {
    /// Dropped in the middle, its runtime is being torn down. The connections go with it, but a grace or a lease would
    /// keep the lock: so a thread of its own gives it back.
    fn drop(&mut self) {
        if !self.asked {
            return;
        }
        self.view
            .modify(|view| view.lost = view.lost.take().or(Some(LostReason::Closed)));
        let inner = &self.inner;
        let way = (inner.pool.urls(), inner.transport.clone(), inner.dial.clone());
        runtime::unlock_detached(way, vec![unlock_request(&self.ask, 0, Outcome::default())]);
    }
}

/// What the wait came to.
enum Waited {
    /// The lock is held.
    Granted(Attached, Box<Grant>),
    /// It is not, and will not be.
    Refused(Error),
    /// The stream broke.
    Broken(Error),
    /// The caller does not want it any more.
    Left(Attached, Command),
}

impl Driver {
    /// A ticket's life, from the request to the end of its stream.
    async fn run_lock(mut self, granted: oneshot::Sender<Result<Grant, Error>>) {
        let mut broken_at = None;
        let end = loop {
            let mode = v1::AttachMode::OrCreate;
            let waited = match self.open(mode).await {
                Ok(attached) => {
                    broken_at = None;
                    self.wait(attached).await
                }
                Err(error) => Waited::Broken(error),
            };
            let Waited::Broken(error) = waited else { break waited };
            let first = self.store_id.is_empty();
            let now = self.inner.clock.now();
            let was_open = broken_at.is_none();
            let since = *broken_at.get_or_insert(now);
            if first || !error.is_transport() || now.saturating_sub(since) >= self.ask.taken_up_within() {
                break Waited::Refused(error);
            }
            if let Some(tell) = self.ask.on_suspended.as_ref().filter(|_| was_open) {
                tell();
            }
            if let Some(command) = self.pause(Duration::from_millis(100)).await {
                return self.leave(command, None).await;
            }
        };
        match end {
            Waited::Granted(attached, grant) => {
                let ttl = grant.ttl;
                // A caller that is gone has sent `GiveBack`, which is read first.
                let _ = granted.send(Ok(*grant));
                self.hold(Some(attached), ttl).await;
            }
            Waited::Left(attached, command) => self.leave(command, Some(attached)).await,
            Waited::Refused(error) | Waited::Broken(error) => self.refuse(error, granted).await,
        }
    }

    /// A try's life.
    async fn run_try(mut self, granted: oneshot::Sender<Result<Grant, Error>>) {
        self.asked = true;
        let sent = self.inner.clock.now();
        let call = |channel, request| async move { LockServiceClient::new(channel).try_lock(request).await };
        let answer: Result<v1::TryLockResponse, Error> = self.inner.unary(self.ask.try_request(), call).await;
        let result = answer.and_then(|it| it.result.ok_or_else(|| convert::unknown_answer("TryLockResponse")));
        match result {
            Ok(try_lock_response::Result::Granted(wire)) => {
                let grant = self.granted(wire);
                let ttl = grant.ttl;
                // A unary call's grant counts from when the call was sent.
                self.promise(sent, ttl);
                let _ = granted.send(Ok(grant));
                self.hold(None, ttl).await;
            }
            Ok(try_lock_response::Result::Refused(wire)) => self.refuse(convert::refused(wire), granted).await,
            Err(error) => self.refuse(error, granted).await,
        }
    }

    /// Tells the caller that there is no lock, and sees to it that nothing is left in the server either.
    async fn refuse(mut self, error: Error, granted: oneshot::Sender<Result<Grant, Error>>) {
        let certain = error.has_no_side_effects() || error.is_superseded();
        let _ = granted.send(Err(error));
        if certain {
            self.asked = false;
            return;
        }
        let leaving = Leaving::new(&self.inner);
        let _ = self.unlock(Outcome::default()).await;
        self.asked = false;
        drop(leaving);
    }

    /// Opens the ticket's stream; once more, on the next endpoint, if the way there is broken.
    async fn open(&mut self, mode: v1::AttachMode) -> Result<Attached, Error> {
        open(&self.inner, &self.ask, mode, &mut self.asked).await
    }

    /// Reads the stream while the ticket is in line.
    async fn wait(&mut self, mut attached: Attached) -> Waited {
        loop {
            let message = tokio::select! {
                biased;
                Some(command) = self.inbox.recv() => return Waited::Left(attached, command),
                message = attached.next() => message,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Waited::Broken(Error::stream_ended()),
                Err(error) => return Waited::Broken(error),
            };
            if !message.store_id.is_empty() {
                self.store_id = message.store_id;
            }
            match message.event {
                Some(Event::Queued(wire)) => {
                    if let Some(tell) = &self.ask.on_queued {
                        tell(convert::queued(wire));
                    }
                }
                Some(Event::Granted(wire)) => {
                    let grant = self.granted(wire);
                    return Waited::Granted(attached, Box::new(grant));
                }
                Some(Event::Refused(wire)) => {
                    attached.drain().await;
                    return Waited::Refused(convert::refused(wire));
                }
                // A repeat of a request whose hold was lost meanwhile.
                Some(Event::Lost(_)) => {
                    attached.drain().await;
                    let reason = RefusedReason::Disconnected;
                    return Waited::Refused(Error::NotAcquired { reason, obstacle: None });
                }
                // The rest is about holds, or newer than this client.
                _ => {}
            }
        }
    }

    fn granted(&mut self, wire: v1::Granted) -> Grant {
        self.token = wire.fencing_token;
        let ttl = wire
            .ttl
            .map(convert::duration)
            .or(self.ask.ttl)
            .unwrap_or(Duration::from_secs(30));
        Grant {
            ticket: wire.ticket,
            fencing_token: wire.fencing_token,
            lowest_valid: wire.lowest_valid,
            ttl,
            hold_count: wire.hold_count,
            waited: wire.waited.map(convert::duration).unwrap_or_default(),
            previous_outcome: wire.previous_outcome.map(convert::outcome).unwrap_or_default(),
        }
    }

    /// Writes down that the server keeps the lease for `ttl` after what was sent at `sent`. Whose clock: the client's;
    /// 2 % less, since the two clocks may differ by 1 %. A promise never takes an earlier one back.
    fn promise(&self, sent: Duration, ttl: Duration) {
        let until = sent + ttl.saturating_sub(ttl / 50);
        self.view.modify(|view| {
            view.confirmed = true;
            view.promised_until = view.promised_until.max(Some(until));
        });
    }

    /// Does what the caller's end asks for, which is always an end.
    async fn leave(mut self, command: Command, attached: Option<Attached>) {
        match command {
            Command::Detach { reply } => {
                drop(attached);
                let _ = reply.send(());
                // A caller that was dropped before it read that gives the lock back after all.
                match self.inbox.recv().await {
                    Some(Command::GiveBack {
                        outcome,
                        reply,
                        leaving,
                    }) => self.give_back(outcome, reply, leaving, None).await,
                    _ => self.asked = false,
                }
            }
            Command::Close(leaving) => {
                self.view
                    .modify(|view| view.lost = view.lost.take().or(Some(LostReason::Closed)));
                self.give_back(Outcome::default(), None, leaving, attached).await;
            }
            Command::GiveBack {
                outcome,
                reply,
                leaving,
            } => self.give_back(outcome, reply, leaving, attached).await,
        }
    }

    async fn give_back(
        mut self,
        outcome: Outcome,
        reply: Option<oneshot::Sender<Result<Unlocked, Error>>>,
        leaving: Leaving,
        attached: Option<Attached>,
    ) {
        // When the unlock is first sent, whatever the clock says when it is answered.
        let promised = self.view.read().promised_until > Some(self.inner.clock.now());
        let answer = self.unlock(outcome).await;
        self.asked = false;
        let answer = answer.map(|result| match result {
            // An earlier try of this unlock did it, and its answer was lost.
            UnlockResult::AlreadyReleased { ended_by: None } if promised => Unlocked::Unlocked,
            UnlockResult::AlreadyReleased { ended_by } => ended_by.unwrap_or(LostReason::Unknown).into(),
            UnlockResult::NotFound => LostReason::StoreChanged.into(),
            UnlockResult::LockByOther => LostReason::Unknown.into(),
            UnlockResult::Released { .. } | UnlockResult::Cancelled => Unlocked::Unlocked,
        });
        self.view.modify(|view| match &answer {
            Ok(Unlocked::Unlocked) => view.unlocked = view.lost.is_none(),
            Ok(Unlocked::AlreadyLost(reason)) => view.lost = Some(reason.clone()),
            Err(_) => view.lost = Some(LostReason::Unconfirmed),
        });
        if let Some(reply) = reply {
            let _ = reply.send(answer);
        }
        drop(leaving);
        if let Some(attached) = attached {
            attached.drain().await;
        }
    }

    /// Ends whatever the server keeps for the request, trying again while the server cannot answer.
    async fn unlock(&self, outcome: Outcome) -> Result<UnlockResult, Error> {
        let started = self.inner.clock.now();
        let mut pause = Duration::from_millis(50);
        loop {
            let request = unlock_request(&self.ask, self.token, outcome.clone());
            let error = match self.inner.send_unlock(request).await {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            if !error.is_retryable() || self.inner.clock.now().saturating_sub(started) >= UNLOCK_WITHIN {
                return Err(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Waits, but not past a command.
    async fn pause(&mut self, pause: Duration) -> Option<Command> {
        tokio::select! {
            biased;
            Some(command) = self.inbox.recv() => Some(command),
            () = sleep(pause) => None,
        }
    }
}

impl From<LostReason> for Unlocked {
    fn from(reason: LostReason) -> Self {
        Self::AlreadyLost(reason)
    }
}

/// Opens a stream for a ticket. `asked` is set before anything is sent.
async fn open(inner: &Inner, ask: &Ask, mode: v1::AttachMode, asked: &mut bool) -> Result<Attached, Error> {
    let mut tried = false;
    loop {
        let place = inner.pool.place()?;
        let generation = place.generation;
        *asked = true;
        let request = ask.lock_request(inner.next_attach(), mode);
        let error = match LockServiceClient::new(place.channel.clone()).lock(request).await {
            Ok(response) => {
                return Ok(Attached {
                    stream: response.into_inner(),
                    _place: place,
                });
            }
            Err(status) => Error::from(status),
        };
        if tried || !error.is_transport() {
            return Err(error);
        }
        tried = true;
        inner.pool.fail_over(generation).await;
    }
}

fn unlock_request(ask: &Ask, fencing_token: u64, outcome: Outcome) -> v1::UnlockRequest {
    v1::UnlockRequest {
        key: ask.key.clone(),
        owner: ask.owner.clone(),
        fencing_token,
        request_id: ask.request_id.to_vec(),
        outcome: Some(convert::to_outcome(outcome)),
    }
}
