//! `AdminService`: for operators.

use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::types::Time;
use ticketlock_proto::v1;
use ticketlock_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use super::convert;
use super::status::Failure;
use super::view;
use crate::service::Service;
use crate::telemetry::Telemetry;

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

#[tonic::async_trait]
impl AdminService for Admin {
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
