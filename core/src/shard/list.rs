//! A doubly linked list threaded through the ticket slab: O(1) at both ends and for removal anywhere, no allocation.

use alloc::boxed::Box;

use slab::Slab;

use crate::planted::{Bug, planted};
use crate::shard::state::{Slot, Ticket};
use crate::types::Number;

/// A ticket's neighbours. A ticket is in one list at a time: its key's line or its key's holders.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Links {
    prev: Link,
    next: Link,
}

/// A slot or none, in four bytes: one more than the slot, or 0.
#[derive(Clone, Copy, Debug, Default)]
struct Link(u32);

impl Link {
    fn to(slot: Option<Slot>) -> Self {
        let link = slot.map_or(0, |slot| slot + 1);
        match u32::try_from(link) {
            Ok(link) => Self(link),
            Err(_) => panic!("more tickets than a shard can have"),
        }
    }

    fn get(self) -> Option<Slot> {
        (self.0 as Slot).checked_sub(1)
    }
}

/// A list of tickets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List {
    head: Option<Slot>,
    tail: Option<Slot>,
    len: u32,
}

impl List {
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn head(&self) -> Option<Slot> {
        self.head
    }

    pub(crate) fn push_back(&mut self, tickets: &mut Slab<Box<Ticket>>, slot: Slot) {
        let after = if planted(Bug::LastInFirstOut) { None } else { self.tail };
        self.insert_after(tickets, after, slot);
    }

    /// Inserts before the first ticket with a larger `order`. Tickets that come back stood near the head, so the walk
    /// is short.
    pub(crate) fn insert_by_order(&mut self, tickets: &mut Slab<Box<Ticket>>, slot: Slot) {
        let order: Number = tickets[slot].order;
        let mut before = None;
        let mut cursor = self.head;
        while let Some(at) = cursor.filter(|at| tickets[*at].order < order) {
            before = Some(at);
            cursor = tickets[at].links.next.get();
        }
        self.insert_after(tickets, before, slot);
    }

    pub(crate) fn remove(&mut self, tickets: &mut Slab<Box<Ticket>>, slot: Slot) {
        let links = core::mem::take(&mut tickets[slot].links);
        let (prev, next) = (links.prev.get(), links.next.get());
        match prev {
            Some(prev) => tickets[prev].links.next = links.next,
            None => self.head = next,
        }
        match next {
            Some(next) => tickets[next].links.prev = links.prev,
            None => self.tail = prev,
        }
        self.len -= 1;
    }

    pub(crate) fn iter<'a>(
        &self,
        tickets: &'a Slab<Box<Ticket>>,
    ) -> impl Iterator<Item = (Slot, &'a Ticket)> + use<'a> {
        let mut cursor = self.head;
        core::iter::from_fn(move || {
            let slot = cursor?;
            let ticket: &Ticket = &tickets[slot];
            cursor = ticket.links.next.get();
            Some((slot, ticket))
        })
    }

    pub(crate) fn next(tickets: &Slab<Box<Ticket>>, slot: Slot) -> Option<Slot> {
        tickets[slot].links.next.get()
    }

    fn insert_after(&mut self, tickets: &mut Slab<Box<Ticket>>, before: Option<Slot>, slot: Slot) {
        let next = match before {
            Some(before) => core::mem::replace(&mut tickets[before].links.next, Link::to(Some(slot))).get(),
            None => self.head.replace(slot),
        };
        match next {
            Some(next) => tickets[next].links.prev = Link::to(Some(slot)),
            None => self.tail = Some(slot),
        }
        tickets[slot].links = Links {
            prev: Link::to(before),
            next: Link::to(next),
        };
        self.len += 1;
    }
}
