//! The fence of a grant, and the one rule that every adapter obeys. It knows no resource.

use crate::Error;

/// The greatest token that a Ticketlock server gives: tokens stay below 2^53, so that every language can hold them.
pub const TOKEN_MAX: u64 = (1 << 53) - 1;

/// What a grant says about its own age: the fencing token, and the lowest token that was valid with it.
///
/// ```
/// use ticketlock_fencing::Fence;
///
/// # fn main() -> Result<(), ticketlock_fencing::Error> {
/// let mine = Fence::exclusive(41)?;
/// // Nothing was seen yet, then 41, which is accepted again.
/// assert_eq!(mine.admit(0)?, 41);
/// assert_eq!(mine.admit(41)?, 41);
/// // A later holder was here.
/// assert!(mine.admit(44).is_err_and(|error| error.is_stale()));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Strictly greater than every earlier token of its key.
    token: u64,
    /// Invariant: `1 <= lowest_valid <= token <= TOKEN_MAX`.
    lowest_valid: u64,
}

impl Fence {
    /// The fence of an exclusive grant, whose token is alone in being valid.
    ///
    /// # Errors
    /// [`Error::InvalidFence`] unless the token is 1 to [`TOKEN_MAX`].
    pub fn exclusive(token: u64) -> Result<Self, Error> {
        Self::new(token, token)
    }

    /// The fence of a grant of any mode: its `fencing_token` and its `lowest_valid`.
    ///
    /// Holders of a shared lock, or of permits, have tokens that are valid together. A resource refuses what is below
    /// the highest `lowest_valid` that it saw, so that they do not refuse each other.
    ///
    /// # Errors
    /// [`Error::InvalidFence`] unless `1 <= lowest_valid <= token <= TOKEN_MAX`.
    pub fn new(token: u64, lowest_valid: u64) -> Result<Self, Error> {
        if lowest_valid == 0 || lowest_valid > token || token > TOKEN_MAX {
            return Err(Error::InvalidFence { token, lowest_valid });
        }
        Ok(Self { token, lowest_valid })
    }

    /// The fencing token, 1 to [`TOKEN_MAX`].
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The lowest token that was valid at the grant, at most [`token`](Self::token).
    #[must_use]
    pub fn lowest_valid(&self) -> u64 {
        self.lowest_valid
    }

    /// The rule: what a resource that has `seen` this must remember, if it may let the bearer in.
    ///
    /// `seen` is the highest `lowest_valid` of all that came before, 0 if none came. Whoever makes an adapter of their
    /// own records the answer durably, in one step with what is written or before it, and never after it.
    ///
    /// # Errors
    /// [`Error::Stale`] if the token is below `seen`.
    pub fn admit(&self, seen: u64) -> Result<u64, Error> {
        if self.token < seen {
            let given = self.token;
            return Err(Error::Stale { seen, given });
        }
        Ok(seen.max(self.lowest_valid))
    }
}

#[cfg(feature = "client")]
impl TryFrom<&ticketlock_client::Guard> for Fence {
    type Error = Error;

    /// # Errors
    /// [`Error::InvalidFence`] if the server gave numbers that break its promise.
    fn try_from(guard: &ticketlock_client::Guard) -> Result<Self, Error> {
        Self::new(guard.fencing_token(), guard.lowest_valid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only what a server can give becomes a fence.
    #[test]
    fn fences_are_within_their_range() {
        for (token, lowest_valid) in [(0, 0), (1, 0), (1, 2), (TOKEN_MAX + 1, 1), (u64::MAX, u64::MAX)] {
            let error = Fence::new(token, lowest_valid).expect_err("out of range");
            assert!(error.to_string().contains(&token.to_string()), "{error}");
        }
        for (token, lowest_valid) in [(1, 1), (9, 4), (TOKEN_MAX, 1), (TOKEN_MAX, TOKEN_MAX)] {
            let fence = Fence::new(token, lowest_valid).expect("in range");
            assert_eq!((fence.token(), fence.lowest_valid()), (token, lowest_valid));
        }
    }

    /// Goal: holders of a shared lock pass together, in any order, until an exclusive one has been there.
    #[test]
    fn shared_holders_do_not_refuse_each_other() {
        let first = Fence::new(5, 5).expect("valid");
        let second = Fence::new(6, 5).expect("valid");
        // The first has unlocked by the time of this grant, the second has not.
        let third = Fence::new(7, 6).expect("valid");
        let writer = Fence::exclusive(8).expect("valid");
        let mut seen = 0;
        for reader in [second, first, second] {
            seen = reader.admit(seen).expect("valid together");
            assert_eq!(seen, 5);
        }
        for reader in [third, second, third] {
            seen = reader.admit(seen).expect("valid together");
            assert_eq!(seen, 6, "what was seen never gets less");
        }
        first.admit(seen).expect_err("unlocked");
        seen = writer.admit(seen).expect("newer");
        for reader in [first, second, third] {
            let refused = reader.admit(seen).expect_err("older");
            assert!(
                matches!(refused, Error::Stale { seen: 8, given } if given == reader.token()),
                "{refused}"
            );
        }
    }
}
