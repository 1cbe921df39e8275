//! The one place where locks, atomics, channels, the concurrent map, tasks and threads come from. Nothing else in `store`
//! and `service` names `parking_lot`, `dashmap`, `tokio::sync` or `std::thread`: with the feature `shuttle` all of it is a
//! checker's, which chooses who goes on at each use, so that interleavings can be tried out one by one.

#[cfg(feature = "shuttle")]
mod checked;
#[cfg(feature = "shuttle")]
pub use checked::{
    AtomicBool, AtomicU64, AtomicUsize, Condvar, DashMap, Handle, Mutex, MutexGuard, Notify, oneshot, sleep_until,
    thread, watch,
};

#[cfg(not(feature = "shuttle"))]
mod real {
    pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub use std::thread;

    pub use parking_lot::{Condvar, Mutex, MutexGuard};
    pub use tokio::runtime::Handle;
    pub use tokio::sync::{Notify, oneshot, watch};
    pub use tokio::time::sleep_until;

    /// A map that many change at once. Its keys are numbers of this server's own, which nobody can choose to collide.
    pub type DashMap<K, V> = dashmap::DashMap<K, V, foldhash::fast::FixedState>;
}
#[cfg(not(feature = "shuttle"))]
pub use real::{
    AtomicBool, AtomicU64, AtomicUsize, Condvar, DashMap, Handle, Mutex, MutexGuard, Notify, oneshot, sleep_until,
    thread, watch,
};

pub use std::sync::atomic::Ordering;
