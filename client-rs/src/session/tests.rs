//! Goal: what a session counts, message by message, and no more than that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ticketlock_proto::v1;
use ticketlock_proto::v1::session_event::Event;
use tokio::sync::oneshot;

use super::Hub;
use super::state::Slot;
use crate::guard::Grant;
use crate::lock::Ask;
use crate::seams::{Clock, OsRandom};
use crate::types::{Mode, OnDisconnect, SameOwner};
use crate::view::{self, Reader};
use crate::{Error, convert};

const ID: u64 = 7;
const TTL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct HandClock(Mutex<Duration>);

impl Clock for HandClock {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session with one lock, and both ends of it in hand.
struct Table {
    clock: Arc<HandClock>,
    hub: Arc<Hub>,
    view: Reader,
    _granting: oneshot::Receiver<Result<Grant, Error>>,
}

impl Table {
    fn new() -> Self {
        let clock = Arc::<HandClock>::default();
        let hub = Hub::new(Arc::clone(&clock) as Arc<_>, Arc::new(OsRandom));
        let ask = Ask {
            key: "k".to_owned(),
            owner: "me".to_owned(),
            request_id: [1; 16],
            mode: Mode::default(),
            ttl: Some(TTL),
            wait: None,
            on_disconnect: OnDisconnect::Grace(TTL),
            same_owner: SameOwner::default(),
            lock_delay: Duration::ZERO,
            max_hold: None,
            metadata: BTreeMap::new(),
            on_queued: None,
            on_suspended: None,
            tell_contention: false,
        };
        let (writer, view) = view::new();
        let (granted, granting) = oneshot::channel();
        hub.state().locks.insert(ID, Slot::new(Arc::new(ask), writer, granted));
        Self {
            clock,
            hub,
            view,
            _granting: granting,
        }
    }

    /// The client sends its next message at this second; its number.
    fn sends(&self, second: u64) -> u64 {
        let now = Duration::from_secs(second);
        *self.clock.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.hub.state().sending(now)
    }

    /// A new stream, to its welcome.
    fn opens(&self, second: u64) {
        self.hub.state().begin_stream(v1::Hello::default());
        self.sends(second);
        let welcome = v1::Welcome {
            ack_timeout: Some(convert::to_duration(Duration::from_secs(1))),
            ..v1::Welcome::default()
        };
        self.hub.on_message(v1::SessionResponse {
            welcome: Some(welcome),
            ..v1::SessionResponse::default()
        });
    }

    fn granted(&self, as_of: u64) {
        let grant = v1::Granted {
            fencing_token: 5,
            ttl: Some(convert::to_duration(TTL)),
            ..v1::Granted::default()
        };
        let event = v1::SessionEvent {
            id: ID,
            as_of,
            event: Some(Event::Granted(grant)),
        };
        self.hub.on_message(v1::SessionResponse {
            events: vec![event],
            ..v1::SessionResponse::default()
        });
    }

    fn beaten(&self, as_of: u64, shorter: Option<Duration>) {
        let shorter = shorter.map(|left| v1::ShorterLease {
            id: ID,
            lease_left: Some(convert::to_duration(left)),
        });
        let done = v1::HeartbeatDone {
            as_of,
            shorter: shorter.into_iter().collect(),
            ..v1::HeartbeatDone::default()
        };
        self.hub.on_message(v1::SessionResponse {
            heartbeat: Some(done),
            ..v1::SessionResponse::default()
        });
    }

    /// Until when it is counted as held, but for the 2 % that clocks may differ by.
    fn counts_to(&self) -> Duration {
        self.view.read().promised_until.unwrap_or_default()
    }
}

/// So many seconds of a lease, counted from a second.
fn lease(from: u64, left: Duration) -> Duration {
    Duration::from_secs(from) + left - left / 50
}

#[test]
fn a_heartbeat_renews_only_what_it_can_know_of() {
    let table = Table::new();
    table.opens(0);
    table.granted(table.sends(1));
    assert_eq!(table.counts_to(), lease(1, TTL));
    table.beaten(table.sends(3), None);
    assert_eq!(table.counts_to(), lease(3, TTL), "renewed");
    table.hub.cut();
    table.opens(5);
    // The heartbeat of a message is answered before the locks that the same message asks for.
    let again = table.sends(6);
    table.beaten(again, None);
    assert_eq!(table.counts_to(), lease(3, TTL), "not known of on this stream yet");
    table.granted(again);
    let acknowledged = table.counts_to();
    table.beaten(again, None);
    assert_eq!(table.counts_to(), acknowledged, "told after that heartbeat");
}

#[test]
fn a_heartbeat_that_renews_for_less_says_so() {
    let table = Table::new();
    table.opens(0);
    table.granted(table.sends(1));
    let left = Duration::from_secs(9);
    table.beaten(table.sends(4), Some(left));
    assert_eq!(table.counts_to(), lease(4, left));
    table.beaten(table.sends(5), Some(Duration::from_secs(2)));
    assert_eq!(table.counts_to(), lease(4, left), "never taken back");
}
