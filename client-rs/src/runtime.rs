//! Where the client's own tasks run, so that a lock is given back whatever becomes of its guard's surroundings.
//!
//! A multi-threaded runtime turns by itself, so its tasks go there. A current-thread runtime stands still whenever
//! nobody blocks on it, and outside a runtime there is nothing at all: then the client has a thread of its own.

use std::future::Future;

use ticketlock_proto::v1::UnlockRequest;
use ticketlock_proto::v1::lock_service_client::LockServiceClient;
use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use crate::Error;
use crate::pool::{Pool, Transport};
use crate::seams::Dial;

/// A handle, and what keeps its runtime alive if it is our own.
#[derive(Debug)]
pub(crate) struct Background {
    handle: Handle,
    /// Dropped with the last client, guard or ticket: that ends the own thread.
    _own: Option<oneshot::Sender<()>>,
}

impl Background {
    /// The caller's runtime where it turns by itself, else an own thread.
    pub(crate) fn choose(given: Option<Handle>) -> Result<Self, Error> {
        if let Some(handle) = given {
            return Ok(Self { handle, _own: None });
        }
        match Handle::try_current() {
            Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => Ok(Self { handle, _own: None }),
            _ => Self::own_thread(),
        }
    }

    fn own_thread() -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Argument(format!("cannot start the client's thread: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (own, gone) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("ticketlock".to_owned())
            .spawn(move || {
                // An error is the news: the sender was dropped.
                let _ = runtime.block_on(gone);
            })
            .map_err(failed)?;
        Ok(Self {
            handle,
            _own: Some(own),
        })
    }

    /// Runs `future` to its end even if the caller stops waiting.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.handle.spawn(future).await.unwrap_or(Err(Error::Closed))
    }

    /// Starts a task that nobody waits for.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(future));
    }
}

/// Where the server is, and how it is reached.
pub(crate) type Way = (Vec<String>, Transport, Option<Dial>);

/// Gives locks back on a fresh thread: the last resort when the runtime is being torn down under them. A way that was
/// injected ends with its runtime, so there is none.
pub(crate) fn unlock_detached((urls, transport, dial): Way, requests: Vec<UnlockRequest>) {
    if dial.is_some() {
        return;
    }
    let unlock = async move {
        let Ok(pool) = Pool::connect(&urls, &transport, None).await else {
            return;
        };
        for request in requests {
            if let Ok((channel, _)) = pool.unary() {
                // Nobody is left to be told.
                let _ = LockServiceClient::new(channel).unlock(request).await;
            }
        }
    };
    // A system that gives no thread leaves the locks to their leases.
    let _ = std::thread::Builder::new()
        .name("ticketlock-unlock".to_owned())
        .spawn(move || {
            if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
                runtime.block_on(unlock);
            }
        });
}
