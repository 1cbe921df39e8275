//! The one place where locks, atomics, channels and the concurrent map come from, so that an interleaving checker can
//! put its own in their place. Nothing else in `store` and `service` names `parking_lot`, `dashmap` or `tokio::sync`.

pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub use parking_lot::{Condvar, Mutex, MutexGuard};
pub use tokio::sync::{Notify, oneshot, watch};

/// A map that many change at once. Its keys are numbers of this server's own, which nobody can choose to collide.
pub type DashMap<K, V> = dashmap::DashMap<K, V, foldhash::fast::FixedState>;
