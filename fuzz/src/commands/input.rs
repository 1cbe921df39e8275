//! Bytes as values: every byte says something, and every value is valid, as a server's edge has made it.
//!
//! What is missing at the end reads as 0. Where a byte says more than one thing, the lowest bits come first. A span is a
//! little-endian word: its highest two bits choose the unit.

use std::time::Duration;

use ticketlock::config::Limits;
use ticketlock_core::command::LockRequest;
use ticketlock_core::types::{EventOptions, Mode, OnDisconnect, RequestId, SameOwner, Terms};

use crate::world::{request, request_id};

/// What is left of the bytes.
pub(super) struct Input<'a> {
    bytes: std::slice::Iter<'a, u8>,
    limits: Limits,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes: bytes.iter(),
            limits: Limits::default(),
        }
    }

    /// `None` at the end.
    pub(super) fn next(&mut self) -> Option<u8> {
        self.bytes.next().copied()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    /// From nanoseconds to more than any limit.
    pub(super) fn span(&mut self) -> Duration {
        let word = u16::from_le_bytes([self.byte(), self.byte()]);
        let unit = match word >> 14 {
            0 => Duration::from_nanos(1),
            1 => Duration::from_millis(1),
            2 => Duration::from_millis(100),
            _ => Duration::from_secs(6),
        };
        unit * u32::from(word & 0x3fff)
    }

    /// The length of a lease.
    pub(super) fn lease(&mut self) -> Duration {
        self.span().clamp(self.limits.ttl_min, self.limits.ttl_max)
    }

    /// A request, on no stream yet.
    pub(super) fn ask(&mut self, who: u8) -> LockRequest {
        let (how, what, ttl) = (self.byte(), self.byte(), self.lease());
        let on_disconnect = match bits(what, 0, 2) {
            1 => OnDisconnect::Grace(self.span().min(self.limits.grace_max)),
            2 => OnDisconnect::Lease,
            _ => OnDisconnect::Release,
        };
        let terms = Terms {
            request_id: id(bits(who, 3, 3)),
            mode: mode(how),
            wait_timeout: bit(what, 4).then(|| self.span()),
            on_disconnect,
            same_owner: match bits(how, 5, 2) {
                1 => SameOwner::Reenter,
                2 => SameOwner::Refuse,
                _ => SameOwner::Wait,
            },
            lock_delay: if bit(what, 5) {
                self.span().min(self.limits.lock_delay_max)
            } else {
                Duration::ZERO
            },
            max_hold: bit(what, 6).then(|| self.lease()),
            ..Terms::exclusive(key(bit(who, 0)), owner(bits(who, 1, 2)))
        };
        let events = EventOptions {
            queue_updates: bit(what, 7),
            contended: bit(what, 7),
            expiring: bit(what, 7),
        };
        LockRequest {
            attach_number: bits(what, 2, 2).into(),
            // Two bits, because it mostly ends the story.
            attach_only: bit(who, 7) && bit(how, 7),
            ttl,
            events,
            ..request(terms)
        }
    }
}

/// Bits of a byte, from `at` on.
pub(super) fn bits(byte: u8, at: u8, count: u8) -> u8 {
    (byte >> at) & ((1 << count) - 1)
}

pub(super) fn bit(byte: u8, at: u8) -> bool {
    bits(byte, at, 1) == 1
}

pub(super) fn key(second: bool) -> &'static str {
    if second { "b" } else { "a" }
}

pub(super) fn owner(number: u8) -> &'static str {
    match number {
        1 => "y",
        2 => "z",
        _ => "x",
    }
}

/// Five names that are used again and again, or none.
pub(super) fn id(number: u8) -> Option<RequestId> {
    (number < 5).then(|| request_id(number))
}

fn mode(how: u8) -> Mode {
    let capacity = if bit(how, 4) { 4 } else { 3 };
    match bits(how, 0, 2) {
        1 => Mode::Shared,
        2 => Mode::Permits {
            permits: (1 + u32::from(bits(how, 2, 2))).min(capacity),
            capacity,
        },
        _ => Mode::Exclusive,
    }
}
