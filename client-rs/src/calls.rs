//! Calls that answer at once: by token, reads, the operators' calls. Each runs to its end in the client's own runtime
//! even if the caller stops waiting, and is tried once more where the way to the server broke: all of them are safe
//! to repeat.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_proto::codec::Codec;
use ticketlock_proto::v1;
use ticketlock_proto::v1::admin_service_client::AdminServiceClient;
use ticketlock_proto::v1::lock_service_client::LockServiceClient;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::client::{Client, Inner};
use crate::types::{
    ForceUnlockResult, LockInfo, Outcome, RenewResult, ServerInfo, TokenCheck, UnlockResult, WatchEvent,
};
use crate::{Error, convert};

impl Inner {
    /// Sends `request` by `call`, with the client's bound in time; once more, to the next endpoint if there is one,
    /// where the connection broke.
    pub(crate) async fn unary<Q, A, F>(
        &self,
        request: Q,
        call: impl Fn(Channel, Request<Q>) -> F + Send,
    ) -> Result<A, Error>
    where
        Q: Clone + Send,
        F: Future<Output = Result<Response<A>, Status>> + Send,
    {
        let mut tried = false;
        loop {
            let (channel, generation) = self.pool.unary()?;
            let mut bounded = Request::new(request.clone());
            bounded.set_timeout(self.call_timeout);
            // The header bounds the server's side; this bounds a server that does not look at it.
            let answer = tokio::time::timeout(self.call_timeout + self.call_timeout / 4, call(channel, bounded)).await;
            let error = match answer {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Error::from(status),
                Err(_) => Error::from(Status::deadline_exceeded("no answer in time")),
            };
            if tried || !error.is_transport() {
                return Err(error);
            }
            tried = true;
            self.pool.fail_over(generation).await;
        }
    }

    /// Ends whatever `request` names.
    pub(crate) async fn send_unlock(&self, request: v1::UnlockRequest) -> Result<UnlockResult, Error> {
        let call = |channel, request| async move { LockServiceClient::new(channel).unlock(request).await };
        convert::unlock(self.unary(request, call).await?)
    }

    /// Extends one hold.
    pub(crate) async fn send_renew(
        &self,
        owner: String,
        key: String,
        fencing_token: u64,
        ttl: Option<Duration>,
    ) -> Result<RenewResult, Error> {
        let item = v1::RenewItem {
            key,
            fencing_token,
            ttl: ttl.map(convert::to_duration),
        };
        let request = v1::RenewRequest {
            owner,
            items: vec![item],
        };
        let call = |channel, request| async move { LockServiceClient::new(channel).renew(request).await };
        convert::renew(self.unary(request, call).await?.results.first().copied())
    }
}

impl Client {
    /// Runs one call in the client's runtime.
    async fn run<T, F>(&self, call: impl FnOnce(Arc<Inner>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.inner.background.run(call(Arc::clone(&self.inner))).await
    }

    /// Extends a hold of this owner by its token. `ttl` absent: as long as before.
    ///
    /// # Errors
    /// Where the server could not answer; that it is not held is no error.
    pub async fn renew(&self, key: &str, token: u64, ttl: Option<Duration>) -> Result<RenewResult, Error> {
        let key = key.to_owned();
        self.run(|inner| async move { inner.send_renew(inner.owner.clone(), key, token, ttl).await })
            .await
    }

    /// Gives a hold of this owner back by its token.
    ///
    /// # Errors
    /// Where the server could not answer; that it is not held is no error.
    pub async fn unlock_token(&self, key: &str, token: u64, outcome: Outcome) -> Result<UnlockResult, Error> {
        let request = v1::UnlockRequest {
            key: key.to_owned(),
            owner: self.inner.owner.clone(),
            fencing_token: token,
            request_id: Vec::new(),
            outcome: Some(convert::to_outcome(outcome)),
        };
        self.run(|inner| async move { inner.send_unlock(request).await }).await
    }

    /// Ends whatever a request of this owner came to: its wait, or its hold.
    pub(crate) async fn unlock_request(&self, key: &str, request_id: [u8; 16]) -> Result<UnlockResult, Error> {
        let request = v1::UnlockRequest {
            key: key.to_owned(),
            owner: self.inner.owner.clone(),
            fencing_token: 0,
            request_id: request_id.to_vec(),
            outcome: None,
        };
        self.run(|inner| async move { inner.send_unlock(request).await }).await
    }

    /// Whether a fencing token is valid at this moment, for a resource that keeps no tokens itself. The answer is out of
    /// date when it arrives: a resource that compares the tokens it sees is safer.
    ///
    /// # Errors
    /// A malformed key, a token that is 0 or not below 2^53, or no answer.
    pub async fn check_token(&self, key: &str, token: u64) -> Result<TokenCheck, Error> {
        let request = v1::CheckTokenRequest {
            key: key.to_owned(),
            fencing_token: token,
        };
        self.run(|inner| async move {
            let call = |channel, request| async move { LockServiceClient::new(channel).check_token(request).await };
            Ok(convert::token_check(inner.unary(request, call).await?))
        })
        .await
    }

    /// The state of one key; a free key has no holders and no waiters.
    ///
    /// # Errors
    /// A malformed key, or no answer.
    pub async fn get(&self, key: &str) -> Result<LockInfo, Error> {
        let request = v1::GetLockRequest {
            key: key.to_owned(),
            owner: self.inner.owner.clone(),
            waiters_limit: 1_000,
        };
        self.run(|inner| async move {
            let call = |channel, request| async move { LockServiceClient::new(channel).get_lock(request).await };
            let answer: v1::GetLockResponse = inner.unary(request, call).await?;
            Ok(convert::lock_info(answer.lock.unwrap_or_default()))
        })
        .await
    }

    /// The keys under `prefix` that somebody holds or waits for, in byte order. Each page is read as it is at that
    /// moment.
    ///
    /// # Errors
    /// No answer to one of the pages.
    pub async fn list(&self, prefix: &str) -> Result<Vec<LockInfo>, Error> {
        let mut request = v1::ListLocksRequest {
            prefix: prefix.to_owned(),
            page_size: 1_000,
            ..v1::ListLocksRequest::default()
        };
        self.run(|inner| async move {
            let mut found = Vec::new();
            loop {
                let call = |channel, request| async move { LockServiceClient::new(channel).list_locks(request).await };
                let page: v1::ListLocksResponse = inner.unary(request.clone(), call).await?;
                found.extend(page.locks.into_iter().map(convert::lock_info));
                if page.next_page_token.is_empty() {
                    return Ok(found);
                }
                request.page_token = page.next_page_token;
            }
        })
        .await
    }

    /// A snapshot of the keys under `prefix`, then what happens to them.
    ///
    /// # Errors
    /// A malformed prefix, a limit, or no answer.
    pub async fn watch(&self, prefix: &str) -> Result<Watch, Error> {
        let request = v1::WatchLocksRequest {
            prefix: prefix.to_owned(),
        };
        self.run(|inner| async move {
            let (channel, _) = inner.pool.unary()?;
            let events = LockServiceClient::new(channel).watch_locks(request).await?.into_inner();
            Ok(Watch { events })
        })
        .await
    }

    /// Takes a hold from its holder, if `token` is the one that holds. `reason` and `by` are told to the holder.
    ///
    /// # Errors
    /// A malformed argument, or no answer; that another token holds is no error.
    pub async fn force_unlock(
        &self,
        key: &str,
        token: u64,
        reason: &str,
        by: &str,
    ) -> Result<ForceUnlockResult, Error> {
        let request = v1::ForceUnlockRequest {
            key: key.to_owned(),
            fencing_token: token,
            reason: reason.to_owned(),
            by: by.to_owned(),
        };
        self.run(|inner| async move {
            let call = |channel, request| async move { AdminServiceClient::new(channel).force_unlock(request).await };
            convert::force_unlock(inner.unary(request, call).await?)
        })
        .await
    }

    /// What the server is, and its limits.
    ///
    /// # Errors
    /// No answer.
    pub async fn server_info(&self) -> Result<ServerInfo, Error> {
        self.run(|inner| async move {
            let call =
                |channel, request| async move { AdminServiceClient::new(channel).get_server_info(request).await };
            let answer = inner.unary(v1::GetServerInfoRequest {}, call).await?;
            Ok(convert::server_info(answer))
        })
        .await
    }

    /// A copy of the server's store as of one point, in parts: together a file for `ticketlock restore`.
    ///
    /// # Errors
    /// The store has none, or no answer.
    pub async fn backup(&self) -> Result<Backup, Error> {
        self.run(|inner| async move {
            let (channel, _) = inner.pool.unary()?;
            let parts = AdminServiceClient::new(channel)
                .backup(v1::BackupRequest {})
                .await?
                .into_inner();
            Ok(Backup { parts })
        })
        .await
    }

    /// Ends the server in good order, as SIGTERM does, and waits until all is given back: at most for the time that the
    /// server allows itself, 10 s unless configured otherwise. Whether what was held or waited for is kept for the next
    /// server on that store; otherwise it has ended. `reason` and `by` are logged there. Sent once: after an error it may
    /// have been done, and a repeat could end the server at the next endpoint.
    ///
    /// # Errors
    /// A malformed argument, or no answer.
    pub async fn drain(&self, reason: &str, by: &str) -> Result<bool, Error> {
        let request = v1::DrainRequest {
            reason: reason.to_owned(),
            by: by.to_owned(),
        };
        self.run(|inner| async move {
            let (channel, _) = inner.pool.unary()?;
            let answer = AdminServiceClient::new(channel).drain(request).await?;
            Ok(answer.into_inner().kept)
        })
        .await
    }

    /// Whether the server says that it serves, by the standard health service.
    ///
    /// # Errors
    /// No answer.
    pub async fn health(&self) -> Result<bool, Error> {
        self.run(|inner| async move {
            let answer = inner.unary(HealthCheckRequest::default(), check_health).await?;
            Ok(answer.status == HEALTH_SERVING)
        })
        .await
    }
}

/// The parts of a copy of a store.
#[derive(Debug)]
pub struct Backup {
    parts: Streaming<v1::BackupResponse>,
}

impl Backup {
    /// The next part; `None` after the last.
    ///
    /// # Errors
    /// The way to the server broke, or its disk failed: what was read so far is not a backup.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.parts.message().await?.map(|part| part.data))
    }
}

/// A watch on the keys under a prefix. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    events: Streaming<v1::WatchLocksResponse>,
}

impl Watch {
    /// The next event; `None` when the server has ended the watch in good order.
    ///
    /// # Errors
    /// The connection broke, or the server refused to go on. The watch is over then.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        loop {
            match self.events.message().await {
                Ok(Some(message)) => {
                    // Events that a newer server may send are none of ours.
                    if let Some(event) = convert::watch_event(message) {
                        return Some(Ok(event));
                    }
                }
                Ok(None) => return None,
                Err(status) => return Some(Err(Error::from(status))),
            }
        }
    }
}

/// grpc.health.v1.HealthCheckRequest; an empty service means the server as a whole.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// grpc.health.v1.HealthCheckResponse.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING.
const HEALTH_SERVING: i32 = 1;

async fn check_health(
    channel: Channel,
    request: Request<HealthCheckRequest>,
) -> Result<Response<HealthCheckResponse>, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = Codec::<HealthCheckRequest, HealthCheckResponse>::default();
    grpc.unary(
        request,
        PathAndQuery::from_static("/grpc.health.v1.Health/Check"),
        codec,
    )
    .await
}
