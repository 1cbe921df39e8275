//! The properties. Each function looks for one of them on one key.

pub use crate::answers::{exactly_once, lease_kept, no_lost_waiter, nothing_lost};
pub use crate::order::{fifo, mutual_exclusion, token_growth};
pub use crate::tickets::Key;
