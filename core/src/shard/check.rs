//! The invariants, by brute force. For tests: it walks everything.

use crate::shard::Shard;
use crate::shard::state::{Bars, Key};
use crate::types::{Mode, Time};

impl Shard {
    /// Checks every invariant that can be seen at one instant.
    ///
    /// # Panics
    /// Where one is broken.
    pub fn check(&self) {
        assert!(
            self.fresh.is_none() && self.dirty.is_empty(),
            "between steps nothing is half done"
        );
        assert!(self.counter <= self.mark, "numbers were used above the mark");
        let mut listed = 0;
        let mut holders = 0;
        for (index, key) in &self.keys {
            assert_eq!(
                self.key_index.get(&key.name),
                Some(&index),
                "a key is found under its name"
            );
            assert!(!key.is_idle(), "idle keys cost nothing (Q4): {}", key.name);
            self.check_holders(key);
            self.check_line(key);
            listed += key.line.len() + key.holders.len();
            holders += key.holders.len();
        }
        assert_eq!(self.key_index.len(), self.keys.len());
        assert_eq!(listed, self.tickets.len() as u64, "each ticket stands in one list");
        assert_eq!(holders, self.holders);
        self.check_indexes();
    }

    /// G2: holders go together, tokens grow along the list, what they bar is counted right.
    fn check_holders(&self, key: &Key) {
        let mut bars = Bars::default();
        let mut last = 0;
        for (slot, ticket) in key.holders.iter(&self.tickets) {
            let hold = ticket.hold.as_ref().expect("a holder has a hold");
            assert!(hold.token > last, "tokens grow");
            last = hold.token;
            assert_eq!(self.numbers.get(&hold.token), Some(&slot));
            bars.add(ticket.terms.mode);
        }
        key.ghosts.iter().for_each(|ghost| bars.add(ghost.mode));
        assert_eq!(bars, key.bars);
        assert!(
            bars.exclusive <= 1 && (bars.exclusive == 0 || bars.shared + bars.permits == 0),
            "exclusive alone"
        );
        assert!(bars.shared == 0 || bars.permits == 0, "shared never beside permits");
        if key.permit_tickets > 0 && key.ghosts.is_empty() {
            assert!(bars.permits <= u64::from(key.capacity), "permits within the capacity");
        }
    }

    /// Q1, Q2: the line is in order, and nobody who could be granted waits.
    fn check_line(&self, key: &Key) {
        let mut last = 0;
        for (_, ticket) in key.line.iter(&self.tickets) {
            assert!(ticket.hold.is_none() && ticket.order > last, "the line is in order");
            last = ticket.order;
        }
        // What one step's bound left over is not settled yet.
        if key.unfinished || self.timers.first().is_some_and(|(at, _)| *at <= self.now) {
            return;
        }
        let head = key
            .line
            .iter(&self.tickets)
            .find(|(_, ticket)| !ticket.is_passed_by(self.now));
        let Some((_, head)) = head.filter(|_| key.bars.exclusive == 0) else {
            return;
        };
        if head.connected() {
            assert!(!key.admits(head.terms.mode), "a head that could be granted waits");
        } else {
            let waited_for = head.wait.away_until.is_some() && head.armed != Time::NEVER;
            assert!(waited_for, "an absent head is waited for");
        }
    }

    fn check_indexes(&self) {
        let mut names = 0;
        let mut numbers = self.tickets.len();
        for (slot, ticket) in &self.tickets {
            assert!(!ticket.claims.is_empty(), "a ticket without a claim");
            assert!(ticket.hold.is_some() || ticket.claims.len() == 1 || ticket.wait.since <= self.now);
            assert_eq!(self.numbers.get(&ticket.number), Some(&slot));
            numbers += usize::from(ticket.hold.as_ref().is_some_and(|hold| hold.token != ticket.number));
            names += ticket
                .claims
                .iter()
                .filter(|claim| claim.terms.request_id.is_some())
                .count();
        }
        assert_eq!(numbers, self.numbers.len(), "no number is left behind");
        assert_eq!(names, self.names.len(), "no name is left behind");
        assert_eq!(self.timers.len(), self.armed(), "no timer is left behind");
        assert!(
            self.ends.len() <= self.config.ends_max.max(1),
            "remembered ends are bounded"
        );
        assert!(self.ended_names.len() <= self.ends.len() && self.ended_tokens.len() <= self.ends.len());
        for (_, key) in &self.keys {
            let permits = key.line.iter(&self.tickets).chain(key.holders.iter(&self.tickets));
            let permits = permits
                .filter(|(_, ticket)| matches!(ticket.terms.mode, Mode::Permits { .. }))
                .count();
            assert_eq!(permits, key.permit_tickets as usize);
        }
    }

    fn armed(&self) -> usize {
        let tickets = self
            .tickets
            .iter()
            .filter(|(_, ticket)| ticket.armed != Time::NEVER)
            .count();
        tickets + self.keys.iter().filter(|(_, key)| key.armed != Time::NEVER).count()
    }
}
