//! Renewals: leases that go on (T1, T2).

use crate::command::Renew;
use crate::planted::{Bug, planted};
use crate::shard::state::Hold;
use crate::shard::{Shard, Step};

impl Shard {
    /// Answers with the lease left, or `None` where it is not held by this owner under this token. `names`: the client
    /// named the token, which acknowledges; else an unacknowledged grant is left alone.
    pub(super) fn renew(&mut self, renew: &Renew, names: bool, step: &mut Step<'_>) -> Option<core::time::Duration> {
        let slot = self.find_hold(&renew.key, renew.token)?;
        if self.tickets[slot].terms.owner != renew.owner || self.end_if_over(slot, step) {
            return None;
        }
        let now = step.now;
        let unacked = |hold: &Hold| hold.ack_until.is_some();
        if !names && self.tickets[slot].hold.as_deref().is_some_and(unacked) {
            return None;
        }
        let ticket = &mut self.tickets[slot];
        let longer = renew.ttl.filter(|ttl| *ttl != ticket.ttl);
        if let Some(ttl) = longer {
            ticket.set_ttl(ttl);
            if let [claim] = ticket.claims.as_mut_slice() {
                claim.ttl = ttl;
            }
        }
        let ttl = ticket.ttl;
        let hold = ticket.hold.as_mut()?;
        // T1: never backwards. T2: what is answered here may be counted, so it is kept.
        let before = hold.lease_end;
        hold.lease_end = hold.lease_end.max(now.after(ttl)).min(hold.end_max);
        hold.promised_end = hold.promised_end.max(hold.lease_end);
        hold.expiring_told = false;
        let left = hold.lease_end.since(now);
        if planted(Bug::RenewalNotKept) {
            (hold.lease_end, hold.promised_end) = (before, before);
        }
        let acked = hold.ack_until.take().is_some();
        if acked {
            hold.outcome_up_to = None;
        }
        if longer.is_some() || acked {
            self.touch(slot);
        }
        self.arm_ticket(slot, now);
        Some(left)
    }
}
