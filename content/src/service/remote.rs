//! The nodes' side: a storage of counts that asks the service. Owns a thread, and on it a runtime, for its calls.
//!
//! A storage's calls block, and come from wherever an application likes: a thread of its own, a runtime's thread for
//! blocking work (as a [`Writer`](crate::Writer) does it), even a task. A runtime refuses to block on some of these, and
//! the caller's may be torn down while another clone is in use. So the calls run on a runtime that belongs to the storage,
//! and callers wait on a plain channel, which may be done anywhere.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::v1::ref_count_service_client::RefCountServiceClient;
use super::v1::{DeleteRefCountRequest, GetRefCountRequest, SetRefCountRequest};
use super::{MESSAGE_BYTES_MAX, ServiceError};
use crate::refcount::{RefCountStorage, ReferenceCount, StorageError};

/// Bound for one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bound for one call, the connection attempt included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps reference counts in a service, see [`serve`](super::serve). Cheap to clone; clones share one connection, which is
/// opened by the first call and again after a cut. A call blocks its thread for at most 10 s, so an asynchronous task
/// makes it where blocking is allowed. No call is repeated: which of its own changes an answer that was lost belongs to,
/// only the caller can tell, and [`RefCountManager`](crate::refcount::RefCountManager)'s changes are safe to repeat.
#[derive(Clone)]
pub struct RemoteStorage {
    /// For errors.
    url: Arc<str>,
    client: RefCountServiceClient<Channel>,
    /// Where calls run.
    runtime: Handle,
    /// Ends the runtime's thread when the last clone is dropped.
    _stop: Arc<oneshot::Sender<()>>,
}

impl fmt::Debug for RemoteStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteStorage")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl RemoteStorage {
    /// Will ask the service at `url`, `http://HOST:PORT`. Starts a thread; sends nothing before the first call.
    ///
    /// # Errors
    /// [`ServiceError::Url`], [`ServiceError::Thread`].
    pub fn new(url: &str) -> Result<Self, ServiceError> {
        let http = |it: &Endpoint| it.uri().scheme_str() == Some("http") && it.uri().host().is_some();
        let endpoint = Endpoint::from_shared(url.to_owned()).ok().filter(http);
        let endpoint = endpoint.ok_or_else(|| ServiceError::Url { url: url.to_owned() })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .tcp_nodelay(true);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServiceError::Thread)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        // On this thread it is dropped, too: within a task that would not be allowed.
        let run = move || {
            // Its end is an error, for nothing is ever sent.
            let _ = runtime.block_on(stopped);
        };
        thread::Builder::new()
            .name("counts".to_owned())
            .spawn(run)
            .map_err(ServiceError::Thread)?;
        let channel = {
            let _within = handle.enter();
            endpoint.connect_lazy()
        };
        let client = RefCountServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self {
            url: url.into(),
            client,
            runtime: handle,
            _stop: Arc::new(stop),
        })
    }

    /// Waits for a call's answer.
    fn call<T, F>(&self, what: &str, call: impl FnOnce(RefCountServiceClient<Channel>) -> F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
    {
        let (answer, answered) = mpsc::sync_channel(1);
        let asking = call(self.client.clone());
        self.runtime.spawn(async move {
            // The endpoint's own bound ends with the headers of an answer.
            let bounded = tokio::time::timeout(CONNECT_TIMEOUT + CALL_TIMEOUT, asking).await;
            let late = |_| Err(Status::deadline_exceeded("no answer in time"));
            // Who asked waits below.
            let _ = answer.send(bounded.unwrap_or_else(late));
        });
        // The thread lives as long as this storage, so that an answer always comes.
        let status = match answered.recv() {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::unavailable("the thread for calls has ended"),
        };
        Err(match status.code() {
            Code::DataLoss => StorageError::Corrupt {
                place: self.url.to_string(),
                problem: status.message().to_owned(),
            },
            _ => StorageError::Failed {
                what: format!("{what} at {}", self.url),
                source: Box::new(status),
            },
        })
    }
}

/// What the service says of a change.
fn done(changed: bool) -> Result<(), StorageError> {
    if changed { Ok(()) } else { Err(StorageError::Conflict) }
}

fn nodes(count: &ReferenceCount) -> Vec<String> {
    count.nodes().map(str::to_owned).collect()
}

impl RefCountStorage for RemoteStorage {
    fn get_ref_count(&self, resource_id: &str) -> Result<ReferenceCount, StorageError> {
        let resource_id = resource_id.to_owned();
        let request = GetRefCountRequest { resource_id };
        let answer = self.call("reading a count", |mut client| async move {
            client.get_ref_count(request).await
        })?;
        Ok(answer.nodes.into_iter().collect())
    }

    fn set_ref_count(
        &self,
        resource_id: &str,
        expected: &ReferenceCount,
        new: &ReferenceCount,
    ) -> Result<(), StorageError> {
        let request = SetRefCountRequest {
            resource_id: resource_id.to_owned(),
            expected_nodes: nodes(expected),
            new_nodes: nodes(new),
        };
        let answer = self.call("changing a count", |mut client| async move {
            client.set_ref_count(request).await
        })?;
        done(answer.changed)
    }

    fn delete_ref_count(&self, resource_id: &str, expected: &ReferenceCount) -> Result<(), StorageError> {
        let request = DeleteRefCountRequest {
            resource_id: resource_id.to_owned(),
            expected_nodes: nodes(expected),
        };
        let answer = self.call("removing a count", |mut client| async move {
            client.delete_ref_count(request).await
        })?;
        done(answer.changed)
    }
}
