//! The one place where locks, atomics, channels and the concurrent map come from, so that an interleaving checker can
//! put its own in their place. Nothing else in `store` and `service` names `parking_lot`, `dashmap` or `tokio::sync`.

pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub use dashmap::DashMap;
pub use parking_lot::{Mutex, MutexGuard};
pub use tokio::sync::{Notify, oneshot, watch};
