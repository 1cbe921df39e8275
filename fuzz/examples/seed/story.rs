//! The language of `src/commands.rs` and `src/commands/input.rs`, as far as the seeds speak it.

/// Shared, or so many permits of 3, or exclusive.
pub(super) const SHARED: u8 = 1;
pub(super) const TWO_PERMITS: u8 = 2 | 1 << 2;
pub(super) const REENTER: u8 = 1 << 5;
pub(super) const REFUSE: u8 = 2 << 5;

pub(super) const GRACE: u8 = 1;
pub(super) const LEASE: u8 = 2;
pub(super) const WAIT: u8 = 1 << 4;
pub(super) const DELAY: u8 = 1 << 5;
pub(super) const MAX_HOLD: u8 = 1 << 6;
pub(super) const EVENTS: u8 = 1 << 7;

pub(super) const SESSION: u8 = 1 << 6;
pub(super) const ONLY: u8 = 1 << 7;

pub(super) const BY_TOKEN: u8 = 1 << 3;
pub(super) const SUCCESS: u8 = 1 << 6;
pub(super) const NO_ID: u8 = 7;
pub(super) const SILENT: u8 = 1 << 7;

/// Steps in the making.
#[derive(Clone)]
pub(super) struct Story(Vec<u8>);

impl Story {
    /// With the widest bounds that there are.
    pub(super) fn new() -> Self {
        Self(vec![19, 239])
    }

    /// With room for one of everything.
    pub(super) fn tight() -> Self {
        Self(vec![0, 0])
    }

    /// Who is `owner`, or'ed with `SESSION` and `ONLY`; on key `a`, for 10 s.
    pub(super) fn lock(mut self, owner: u8, id: u8, how: u8, what: u8, more: &[u8]) -> Self {
        let flags = owner & (SESSION | ONLY);
        let how = how | owner & ONLY;
        self.0.extend([0, flags | (owner & 3) << 1 | id << 3, how, what]);
        self.0.extend(seconds(10));
        self.0.extend(more);
        self
    }

    /// As most are: exclusive, without end.
    pub(super) fn plain(self, owner: u8, id: u8) -> Self {
        self.lock(owner, id, 0, 0, &[])
    }

    pub(super) fn attempt(mut self, owner: u8, id: u8, how: u8) -> Self {
        self.0.extend([5, owner << 1 | id << 3, how, 0]);
        self.0.extend(seconds(5));
        self
    }

    pub(super) fn unlock(mut self, which: u8, id: u8) -> Self {
        self.0.extend([6, which, id]);
        self
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn renew(mut self, grant: u8) -> Self {
        self.0.extend([8, grant]);
        self
    }

    pub(super) fn beat(mut self, grant: u8) -> Self {
        self.0.extend([9, grant]);
        self
    }

    pub(super) fn detach(mut self, which: u8) -> Self {
        self.0.extend([10, which]);
        self
    }

    pub(super) fn force(mut self, grant: u8) -> Self {
        self.0.extend([12, grant]);
        self
    }

    pub(super) fn after(mut self, span: [u8; 2]) -> Self {
        self.0.push(13);
        self.0.extend(span);
        self
    }

    pub(super) fn stall(mut self, span: [u8; 2]) -> Self {
        self.0.push(14);
        self.0.extend(span);
        self
    }

    pub(super) fn restart(mut self, of_the_shard: bool) -> Self {
        self.0.extend([15, of_the_shard.into()]);
        self
    }
}

pub(super) fn seconds(count: u16) -> [u8; 2] {
    (2 << 14 | (count * 10)).to_le_bytes()
}

pub(super) fn millis(count: u16) -> [u8; 2] {
    (1 << 14 | count).to_le_bytes()
}
