//! `LockService`: checks a request, hands it to the service, and puts the answer into a message.

use std::sync::Arc;

use prost::Message as _;
use ticketlock_core::command::TryReply;
use ticketlock_core::output::KeyView;
use ticketlock_core::types::{Outcome, OutcomeStatus};
use ticketlock_proto::v1;
use ticketlock_proto::v1::lock_service_server::LockService;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{self, RenewItem};
use super::io::{Connection, Peer};
use super::session::SessionEvents;
use super::status::{ErrorReason, Failure};
use super::streams::{LockEvents, Seat, WatchEvents};
use super::view;
use crate::config::Limits;
use crate::service::{DetachProbe, Service, ServiceError};
use crate::telemetry::{Renewal, Telemetry};

/// Keys that are asked for at once while a page is filled, at most.
const CHUNK: usize = 64;
/// Waiters that are asked for at once while a page is filled, about.
pub(super) const CHUNK_WAITERS: usize = 4_096;
/// Room in a reply for what stands beside the keys.
pub(super) const REPLY_FRAME: usize = 4_096;

/// Waiters per key of a page where nothing was asked for.
pub(super) const WAITERS_DEFAULT: usize = 10;

/// The locks' side of the API.
pub struct Locks {
    /// Does it.
    service: Service,
    /// Looks on.
    telemetry: Arc<Telemetry>,
}

impl Locks {
    /// Over this service.
    #[must_use]
    pub fn new(service: Service, telemetry: Arc<Telemetry>) -> Self {
        Self { service, telemetry }
    }

    /// Bounds.
    fn limits(&self) -> &Limits {
        &self.service.config().limits
    }

    /// The answer, or the one status for the failure.
    fn answer<T>(&self, result: Result<T, Failure>) -> Result<Response<T>, Status> {
        result
            .map(Response::new)
            .map_err(|failure| self.telemetry.failed(failure))
    }

    /// A ticket and its stream.
    async fn take_ticket(&self, request: Request<v1::LockRequest>) -> Result<LockEvents, Failure> {
        let connection = connection(&request)?;
        let request = convert::lock_request(request.into_inner(), self.limits())?;
        let seat = Seat::for_lock(&connection, &self.telemetry, self.limits())?;
        let shard = self.service.shards().shard_of(&request.terms.key);
        let mode = request.terms.mode;
        let probe: DetachProbe = Arc::new(move || connection.cause());
        let events = self.service.lock(request, probe).await?;
        Ok(LockEvents::new(events, self.service.store_id(), shard, mode, seat))
    }

    /// A grant, or what is in the way.
    async fn try_once(&self, request: v1::TryLockRequest) -> Result<v1::TryLockResponse, Failure> {
        use v1::try_lock_response::Result as Answer;
        let request = convert::try_lock_request(request, self.limits())?;
        let mode = request.terms.mode;
        let answer = match self.service.try_lock(request).await? {
            TryReply::Granted(grant) => Answer::Granted(view::granted(grant)),
            TryReply::Refused { reason, obstacle } => {
                self.telemetry.refused(mode, reason);
                Answer::Refused(view::refused(reason, obstacle))
            }
        };
        Ok(v1::TryLockResponse {
            store_id: self.service.store_id().to_vec(),
            result: Some(answer),
        })
    }

    /// The end of a hold or a wait.
    async fn end(&self, request: v1::UnlockRequest) -> Result<v1::UnlockResponse, Failure> {
        let reply = self
            .service
            .unlock(convert::unlock_request(request, self.limits())?)
            .await?;
        self.telemetry.unlocked(&reply);
        Ok(view::unlock_response(&reply))
    }

    /// Renewals, each with its answer.
    async fn extend(&self, request: v1::RenewRequest) -> Result<v1::RenewResponse, Failure> {
        let items = convert::renew_request(request, self.limits())?;
        let valid: Vec<bool> = items.iter().map(|item| matches!(item, RenewItem::Checked(_))).collect();
        let checked = items.into_iter().filter_map(|item| match item {
            RenewItem::Checked(renew) => Some(renew),
            RenewItem::InvalidTtl => None,
        });
        let mut answers = self.service.renew(checked.collect()).await?.into_iter();
        let invalid = v1::RenewResult {
            status: v1::RenewStatus::InvalidTtl.into(),
            ttl: None,
        };
        let results: Vec<v1::RenewResult> = valid
            .into_iter()
            .map(|valid| {
                if valid {
                    view::renew_result(answers.next().flatten())
                } else {
                    invalid
                }
            })
            .collect();
        for result in &results {
            self.telemetry.renewed(match result.status() {
                v1::RenewStatus::Renewed => Renewal::Renewed,
                v1::RenewStatus::InvalidTtl => Renewal::InvalidTtl,
                v1::RenewStatus::NotHeld | v1::RenewStatus::Unspecified => Renewal::NotHeld,
            });
        }
        Ok(v1::RenewResponse { results })
    }

    /// One key.
    async fn show(&self, request: v1::GetLockRequest) -> Result<v1::GetLockResponse, Failure> {
        let limits = self.limits();
        let key = convert::key(&request.key, limits)?;
        let caller = if request.owner.is_empty() {
            None
        } else {
            Some(convert::owner(&request.owner, limits)?)
        };
        let waiters_limit = convert::page("waiters_limit", request.waiters_limit, limits.page_default, limits)?;
        let state = self.service.get(&key, waiters_limit).await?;
        Ok(get_response(state, caller.as_deref(), limits))
    }

    /// One token.
    async fn check(&self, request: v1::CheckTokenRequest) -> Result<v1::CheckTokenResponse, Failure> {
        let key = convert::key(&request.key, self.limits())?;
        let token = convert::token("fencing_token", request.fencing_token)?;
        Ok(view::checked_token(&self.service.get(&key, 0).await?, token))
    }

    /// A page of keys: as many as were asked for, or as fit into a reply.
    async fn page(&self, request: v1::ListLocksRequest) -> Result<v1::ListLocksResponse, Failure> {
        let limits = self.limits();
        let prefix = convert::prefix(&request.prefix, limits)?;
        let page_size = convert::page("page_size", request.page_size, limits.page_default, limits)?;
        let waiters_limit = convert::page("waiters_limit", request.waiters_limit, WAITERS_DEFAULT, limits)?;
        let mut after = convert::page_token(&request.page_token, limits)?;
        let bytes_max = limits.reply_bytes_max.saturating_sub(REPLY_FRAME);
        let chunk = (CHUNK_WAITERS / waiters_limit.max(1)).clamp(1, CHUNK);
        let mut page = v1::ListLocksResponse::default();
        let mut bytes = 0;
        loop {
            // One more than is wanted tells whether there is a next page.
            let wanted = (page_size + 1 - page.locks.len()).min(chunk);
            let views = self
                .service
                .list(&prefix, after.as_deref(), wanted, waiters_limit)
                .await?;
            let complete = views.len() < wanted;
            for state in views {
                let info = view::lock_info(state, bytes_max);
                bytes += info.encoded_len() + 8;
                if page.locks.len() == page_size || (bytes > bytes_max && !page.locks.is_empty()) {
                    page.next_page_token = after.as_deref().map(convert::to_page_token).unwrap_or_default();
                    return Ok(page);
                }
                after = Some(info.key.clone());
                page.locks.push(info);
            }
            if complete {
                return Ok(page);
            }
        }
    }

    /// A session and its stream.
    fn converse(&self, request: Request<Streaming<v1::SessionRequest>>) -> Result<SessionEvents, Failure> {
        let connection = connection(&request)?;
        let seat = Seat::for_session(&connection, &self.telemetry, self.limits())?;
        if self.service.is_draining() {
            return Err(ServiceError::Draining.into());
        }
        let probe: DetachProbe = Arc::new(move || connection.cause());
        let (service, telemetry) = (self.service.clone(), Arc::clone(&self.telemetry));
        let session = service.session(probe);
        Ok(SessionEvents::new(
            request.into_inner(),
            session,
            service,
            telemetry,
            seat,
        ))
    }

    /// A watch and its stream.
    fn follow(&self, request: &Request<v1::WatchLocksRequest>) -> Result<WatchEvents, Failure> {
        let limits = self.limits();
        let prefix = convert::prefix(&request.get_ref().prefix, limits)?;
        let seat = Seat::for_watch(&connection(request)?, &self.telemetry, limits)?;
        let bytes_max = limits.reply_bytes_max.saturating_sub(REPLY_FRAME);
        Ok(WatchEvents::new(self.service.watch(prefix)?, seat, bytes_max))
    }
}

/// One key's state for a caller.
pub(super) fn get_response(state: KeyView, caller: Option<&str>, limits: &Limits) -> v1::GetLockResponse {
    let success = |outcome: &Outcome| outcome.status == OutcomeStatus::Success;
    v1::GetLockResponse {
        held: !state.holders.is_empty(),
        held_by_caller: caller.is_some_and(|caller| state.holders.iter().any(|holder| *holder.terms.owner == *caller)),
        completed: state.pending_outcome.as_ref().is_some_and(success),
        lock: Some(view::lock_info(
            state,
            limits.reply_bytes_max.saturating_sub(REPLY_FRAME),
        )),
    }
}

/// The connection that a request came over.
fn connection<T>(request: &Request<T>) -> Result<Arc<Connection>, Failure> {
    let peer = request.extensions().get::<Peer>().map(|peer| Arc::clone(&peer.0));
    peer.ok_or_else(|| Failure::new(ErrorReason::Bug, "a request without its connection"))
}

#[tonic::async_trait]
impl LockService for Locks {
    type LockStream = LockEvents;
    type WatchLocksStream = WatchEvents;
    type SessionStream = SessionEvents;

    async fn lock(&self, request: Request<v1::LockRequest>) -> Result<Response<LockEvents>, Status> {
        self.answer(self.take_ticket(request).await)
    }

    async fn try_lock(&self, request: Request<v1::TryLockRequest>) -> Result<Response<v1::TryLockResponse>, Status> {
        self.answer(self.try_once(request.into_inner()).await)
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<SessionEvents>, Status> {
        self.answer(self.converse(request))
    }

    async fn unlock(&self, request: Request<v1::UnlockRequest>) -> Result<Response<v1::UnlockResponse>, Status> {
        self.answer(self.end(request.into_inner()).await)
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        self.answer(self.extend(request.into_inner()).await)
    }

    async fn get_lock(&self, request: Request<v1::GetLockRequest>) -> Result<Response<v1::GetLockResponse>, Status> {
        self.answer(self.show(request.into_inner()).await)
    }

    async fn check_token(
        &self,
        request: Request<v1::CheckTokenRequest>,
    ) -> Result<Response<v1::CheckTokenResponse>, Status> {
        self.answer(self.check(request.into_inner()).await)
    }

    async fn list_locks(
        &self,
        request: Request<v1::ListLocksRequest>,
    ) -> Result<Response<v1::ListLocksResponse>, Status> {
        self.answer(self.page(request.into_inner()).await)
    }

    async fn watch_locks(&self, request: Request<v1::WatchLocksRequest>) -> Result<Response<WatchEvents>, Status> {
        self.answer(self.follow(&request))
    }
}
