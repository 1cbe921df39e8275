//! A session spoken by the generated stub alone.

use std::collections::VecDeque;

use ticketlock::grpc::ErrorReason;
use ticketlock_proto::v1;
use ticketlock_proto::v1::session_call::Call;
use ticketlock_proto::v1::session_event::Event;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use super::{Locks, PATIENCE, check, request, unlock};

/// One session: what was sent on it, and what came back and was not looked at yet.
pub struct Talk {
    pub requests: mpsc::UnboundedSender<v1::SessionRequest>,
    pub responses: Streaming<v1::SessionResponse>,
    pub number: u64,
    pub events: VecDeque<v1::SessionEvent>,
    pub beats: VecDeque<v1::HeartbeatDone>,
    pub draining: bool,
    pub welcome: v1::Welcome,
}

impl Talk {
    /// Says `Hello`, is welcomed.
    pub async fn open(locks: &mut Locks, owner: &str, attach: u64) -> Self {
        let (requests, inbox) = mpsc::unbounded_channel();
        let owner = owner.to_owned();
        let hello = v1::SessionRequest {
            number: 1,
            hello: Some(v1::Hello { owner, attach }),
            ..v1::SessionRequest::default()
        };
        requests.send(hello).expect("open");
        let responses = locks
            .session(UnboundedReceiverStream::new(inbox))
            .await
            .expect("opened");
        let mut talk = Self {
            requests,
            responses: responses.into_inner(),
            number: 1,
            events: VecDeque::new(),
            beats: VecDeque::new(),
            draining: false,
            welcome: v1::Welcome::default(),
        };
        let first = talk.message().await.expect("no error").expect("not the end");
        talk.welcome = first.welcome.expect("welcome comes first");
        talk
    }

    /// Sends calls in one message; returns its number.
    pub fn send(&mut self, calls: impl IntoIterator<Item = (u64, Call)>) -> u64 {
        let calls = calls
            .into_iter()
            .map(|(id, call)| v1::SessionCall { id, call: Some(call) });
        self.push(v1::SessionRequest {
            calls: calls.collect(),
            ..v1::SessionRequest::default()
        })
    }

    pub fn beat(&mut self) -> u64 {
        self.push(v1::SessionRequest {
            heartbeat: true,
            ..v1::SessionRequest::default()
        })
    }

    pub fn push(&mut self, message: v1::SessionRequest) -> u64 {
        self.number += 1;
        let number = self.number;
        // A session that the server ended is looked at by its reader.
        let _ = self.requests.send(v1::SessionRequest { number, ..message });
        number
    }

    pub async fn message(&mut self) -> Result<Option<v1::SessionResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.responses.message())
            .await
            .expect("a message in time")
    }

    pub async fn read(&mut self) {
        let message = self.message().await.expect("no error").expect("not the end");
        self.events.extend(message.events);
        self.beats.extend(message.heartbeat);
        self.draining |= message.server_draining.is_some();
    }

    /// The next event, whichever call it is about.
    pub async fn event(&mut self) -> (u64, u64, Event) {
        while self.events.is_empty() {
            self.read().await;
        }
        let event = self.events.pop_front().expect("just read");
        (event.id, event.as_of, event.event.expect("a known event"))
    }

    /// The next event, which must be a grant of this call.
    pub async fn granted(&mut self, id: u64) -> (u64, v1::Granted) {
        match self.event().await {
            (of, as_of, Event::Granted(granted)) if of == id => (as_of, granted),
            other => panic!("a grant of {id} was expected, not {other:?}"),
        }
    }

    pub async fn beaten(&mut self) -> v1::HeartbeatDone {
        while self.beats.is_empty() {
            self.read().await;
        }
        self.beats.pop_front().expect("just read")
    }

    /// The server ends it with this status.
    pub async fn failed(mut self, reason: ErrorReason) {
        let end = loop {
            match self.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a good end"),
                Err(status) => break status,
            }
        };
        check(Err::<(), _>(end), reason);
    }
}

pub fn locking(key: &str) -> Call {
    Call::Lock(request(key, ""))
}

pub fn named(key: &str, id: u8) -> v1::LockRequest {
    v1::LockRequest {
        request_id: vec![id; 16],
        on_disconnect: v1::OnDisconnect::Grace.into(),
        ..request(key, "")
    }
}

pub fn unlocking(key: &str, token: u64) -> Call {
    Call::Unlock(unlock(key, "", token))
}

pub fn renewing(key: &str, fencing_token: u64) -> Call {
    Call::Renew(v1::RenewItem {
        key: key.into(),
        fencing_token,
        ttl: None,
    })
}
