//! What readers see. Nothing here changes anything.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use crate::output::{HolderView, KeyView, WaiterView};
use crate::shard::Shard;
use crate::shard::lock::delay_left;
use crate::shard::state::{Key, Slot};
use crate::types::Time;

impl Shard {
    /// One key, with at most `waiters_limit` of its waiters. A key that does not exist is shown empty.
    #[must_use]
    pub fn get(&self, key: &str, waiters_limit: usize, now: Time) -> KeyView {
        match self.key_index.get(key) {
            Some(&index) => self.key_view(&self.keys[index], waiters_limit, now),
            None => KeyView {
                key: key.into(),
                holders: Vec::new(),
                waiters: Vec::new(),
                waiters_total: 0,
                capacity: None,
                lock_delay_left: None,
                pending_outcome: None,
            },
        }
    }

    /// Keys that begin with `prefix` and come after `after`, in byte order, at most `limit`. Walks all keys of the
    /// shard, and keeps no more than `limit` of them.
    #[must_use]
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        waiters_limit: usize,
        now: Time,
    ) -> Vec<KeyView> {
        let mut smallest: BinaryHeap<(&str, usize)> = BinaryHeap::new();
        for (index, key) in &self.keys {
            let name: &str = &key.name;
            if after.is_some_and(|after| name <= after) || !name.starts_with(prefix) {
                continue;
            }
            if smallest.len() < limit {
                smallest.push((name, index));
            } else if let Some(mut largest) = smallest.peek_mut().filter(|largest| name < largest.0) {
                *largest = (name, index);
            }
        }
        let keys = smallest.into_sorted_vec();
        keys.into_iter()
            .map(|(_, index)| self.key_view(&self.keys[index], waiters_limit, now))
            .collect()
    }

    fn key_view(&self, key: &Key, waiters_limit: usize, now: Time) -> KeyView {
        let line = key.line.iter(&self.tickets).take(waiters_limit).zip(0..);
        KeyView {
            key: key.name.clone(),
            holders: key
                .holders
                .iter(&self.tickets)
                .map(|(slot, _)| self.holder_view(slot, now))
                .collect(),
            waiters: line
                .map(|((slot, _), position)| self.waiter_view(slot, position, now))
                .collect(),
            waiters_total: key.line.len(),
            capacity: (key.permit_tickets > 0).then_some(key.capacity),
            lock_delay_left: (!key.ghosts.is_empty()).then(|| delay_left(key, now)),
            pending_outcome: key.outcome.as_ref().map(|(outcome, _)| outcome.clone()),
        }
    }

    pub(super) fn holder_view(&self, slot: Slot, now: Time) -> HolderView {
        let ticket = &self.tickets[slot];
        let Some(hold) = &ticket.hold else {
            unreachable!("a holder without a hold")
        };
        HolderView {
            terms: ticket.terms.clone(),
            ticket: ticket.number,
            token: hold.token,
            claims: u32::try_from(ticket.claims.len()).unwrap_or(u32::MAX),
            held: now.since(hold.since),
            lease_left: self.lease_left(slot, now),
            connected: ticket.connected(),
        }
    }

    pub(super) fn waiter_view(&self, slot: Slot, position: u64, now: Time) -> WaiterView {
        let ticket = &self.tickets[slot];
        WaiterView {
            terms: ticket.terms.clone(),
            ticket: ticket.number,
            position,
            waited: now.since(ticket.wait.since),
            connected: ticket.connected(),
        }
    }
}
