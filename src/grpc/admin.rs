//! `AdminService`: for operators.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::types::Time;
use ticketlock_proto::v1;
use ticketlock_proto::v1::admin_service_server::AdminService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert;
use super::status::{ErrorReason, Failure};
use super::view;
use crate::service::Service;
use crate::store::StoreError;
use crate::telemetry::Telemetry;

/// One part of a backup.
const PART_BYTES: u64 = 64 * 1024;

/// The operators' side of the API.
pub struct Admin {
    /// Does it.
    service: Service,
    /// Looks on.
    telemetry: Arc<Telemetry>,
}

impl Admin {
    /// Over this service.
    #[must_use]
    pub fn new(service: Service, telemetry: Arc<Telemetry>) -> Self {
        Self { service, telemetry }
    }

    /// Takes a hold from its holder.
    async fn force(&self, request: &v1::ForceUnlockRequest) -> Result<v1::ForceUnlockResponse, Failure> {
        let force = convert::force_request(request, &self.service.config().limits)?;
        let reply = self
            .service
            .force_unlock(force.key, force.token, force.by, force.reason)
            .await?;
        Ok(view::force_response(&reply))
    }

    /// What this server is.
    fn info(&self) -> v1::GetServerInfoResponse {
        let uptime = self.service.clock().now().since(Time::default());
        let store = self.service.store();
        v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store_id: self.service.store_id().to_vec(),
            store: store.name().to_owned(),
            durability: store.durability().to_owned(),
            shards: self.service.shards().get(),
            uptime: Some(view::wire_span(uptime)),
            limits: self.limits(),
        }
    }

    /// Every limit under its name; durations in milliseconds, sizes in bytes.
    fn limits(&self) -> std::collections::HashMap<String, u64> {
        let config = self.service.config();
        let limits = &config.limits;
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let size = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let named = [
            ("key_bytes_max", size(limits.key_bytes_max)),
            ("owner_bytes_max", size(limits.owner_bytes_max)),
            ("metadata_bytes_max", size(limits.metadata_bytes_max)),
            ("note_bytes_max", size(limits.note_bytes_max)),
            ("reason_bytes_max", size(limits.reason_bytes_max)),
            ("ttl_min_ms", ms(limits.ttl_min)),
            ("ttl_max_ms", ms(limits.ttl_max)),
            ("ttl_default_ms", ms(limits.ttl_default)),
            ("grace_max_ms", ms(limits.grace_max)),
            ("grace_default_ms", ms(limits.grace_default)),
            ("lock_delay_max_ms", ms(limits.lock_delay_max)),
            ("permits_max", limits.permits_max.into()),
            ("waiters_per_key_max", config.core.waiters_max.into()),
            ("claims_per_hold_max", config.core.claims_max.into()),
            ("locks_per_connection_max", limits.locks_per_connection_max.into()),
            ("waiters_per_connection_max", limits.waiters_per_connection_max.into()),
            ("request_bytes_max", size(limits.request_bytes_max)),
            ("reply_bytes_max", size(limits.reply_bytes_max)),
            ("page_max", size(limits.page_max)),
            ("connections_max", limits.connections_max.into()),
            ("header_list_bytes_max", limits.header_list_bytes_max.into()),
            ("outbox_bytes_max", size(limits.outbox_bytes_max)),
            ("streams_per_connection_max", limits.streams_per_connection_max.into()),
            ("streams_reserved", limits.streams_reserved.into()),
            ("watch_events_max", size(limits.watch_events_max)),
            ("held_per_shard_max", size(limits.held_per_shard_max)),
        ];
        named
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// The parts of a copy, read by a thread that may wait for the disk. They end early where nobody reads them any more.
fn parts(mut copy: File) -> ReceiverStream<Result<v1::BackupResponse, Status>> {
    let (sender, parts) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut data = Vec::new();
            let part = match (&mut copy).take(PART_BYTES).read_to_end(&mut data) {
                Ok(0) => return,
                Ok(_) => Ok(v1::BackupResponse { data }),
                Err(error) => Err(Status::from(Failure::new(
                    ErrorReason::StoreUnavailable,
                    error.to_string(),
                ))),
            };
            if sender.blocking_send(part).is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(parts)
}

#[tonic::async_trait]
impl AdminService for Admin {
    type BackupStream = ReceiverStream<Result<v1::BackupResponse, Status>>;

    async fn backup(&self, _request: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        if !self.service.store().outlives_the_process() {
            let text = format!("the {} store has no backup", self.service.store().name());
            return Err(self.telemetry.failed(Failure::new(ErrorReason::Unimplemented, text)));
        }
        let copy = self.service.backup().await;
        let failed = |error: StoreError| Failure::new(ErrorReason::StoreUnavailable, error.to_string());
        let copy = copy.map_err(|error| self.telemetry.failed(failed(error)))?;
        Ok(Response::new(parts(copy)))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        let words = convert::drain_request(request.get_ref(), &self.service.config().limits);
        let (reason, by) = words.map_err(|failure| self.telemetry.failed(failure))?;
        tracing::info!(%reason, %by, "asked to drain");
        self.service.drain().await;
        let kept = self.service.store().outlives_the_process();
        Ok(Response::new(v1::DrainResponse { kept }))
    }

    async fn force_unlock(
        &self,
        request: Request<v1::ForceUnlockRequest>,
    ) -> Result<Response<v1::ForceUnlockResponse>, Status> {
        let result = self.force(request.get_ref()).await;
        result
            .map(Response::new)
            .map_err(|failure| self.telemetry.failed(failure))
    }

    async fn get_server_info(
        &self,
        _request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        Ok(Response::new(self.info()))
    }
}
