//! The server's side: from messages to a storage and back. Refuses what no storage needs to see.

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::v1::ref_count_service_server::{RefCountService, RefCountServiceServer};
use super::v1::{
    DeleteRefCountRequest, DeleteRefCountResponse, GetRefCountRequest, GetRefCountResponse, SetRefCountRequest,
    SetRefCountResponse,
};
use super::{MESSAGE_BYTES_MAX, ServiceError};
use crate::refcount::{
    NODE_ID_BYTES_MAX, REFERENCES_MAX, RESOURCE_ID_BYTES_MAX, RefCountStorage, ReferenceCount, StorageError,
};

/// Bound: calls of one connection that are worked on at once; further ones wait.
const CALLS_MAX: usize = 64;

/// Serves the counts of this storage until `until` ends and the calls under way are answered. Needs a tokio runtime with
/// time and I/O; the storage is called on its threads for blocking work. A future that is dropped ends at once: changes
/// under way are done or not, and nobody is told.
///
/// # Errors
/// [`ServiceError::Serve`].
pub async fn serve(
    storage: impl RefCountStorage + 'static,
    listener: TcpListener,
    until: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    let service = RefCountServiceServer::new(Counts(Arc::new(storage)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .concurrency_limit_per_connection(CALLS_MAX)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, until)
        .await
        .map_err(ServiceError::Serve)
}

/// The storage, as the generated trait wants it.
struct Counts<S>(Arc<S>);

impl<S: RefCountStorage + 'static> Counts<S> {
    /// Calls the storage where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&S) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Status> {
        let storage = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || call(&storage)).await {
            Ok(answer) => answer.map_err(status),
            Err(error) => Err(Status::unavailable(format!("calling the storage: {error}"))),
        }
    }

    /// Does a change, and tells whether the record was as expected.
    async fn change(&self, call: impl FnOnce(&S) -> Result<(), StorageError> + Send + 'static) -> Result<bool, Status> {
        self.blocking(|storage| match call(storage) {
            Ok(()) => Ok(true),
            Err(StorageError::Conflict) => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }
}

#[tonic::async_trait]
impl<S: RefCountStorage + 'static> RefCountService for Counts<S> {
    async fn get_ref_count(
        &self,
        request: Request<GetRefCountRequest>,
    ) -> Result<Response<GetRefCountResponse>, Status> {
        let GetRefCountRequest { resource_id } = request.into_inner();
        check_resource_id(&resource_id)?;
        let record = self
            .blocking(move |storage| storage.get_ref_count(&resource_id))
            .await?;
        Ok(Response::new(GetRefCountResponse {
            count: u32::try_from(record.count()).unwrap_or(u32::MAX),
            nodes: record.nodes().map(str::to_owned).collect(),
        }))
    }

    async fn set_ref_count(
        &self,
        request: Request<SetRefCountRequest>,
    ) -> Result<Response<SetRefCountResponse>, Status> {
        let SetRefCountRequest {
            resource_id,
            expected_nodes,
            new_nodes,
        } = request.into_inner();
        check_resource_id(&resource_id)?;
        let expected = record("expected_nodes", expected_nodes)?;
        let new = record("new_nodes", new_nodes)?;
        let changed = self
            .change(move |storage| storage.set_ref_count(&resource_id, &expected, &new))
            .await?;
        Ok(Response::new(SetRefCountResponse { changed }))
    }

    async fn delete_ref_count(
        &self,
        request: Request<DeleteRefCountRequest>,
    ) -> Result<Response<DeleteRefCountResponse>, Status> {
        let DeleteRefCountRequest {
            resource_id,
            expected_nodes,
        } = request.into_inner();
        check_resource_id(&resource_id)?;
        let expected = record("expected_nodes", expected_nodes)?;
        let changed = self
            .change(move |storage| storage.delete_ref_count(&resource_id, &expected))
            .await?;
        Ok(Response::new(DeleteRefCountResponse { changed }))
    }
}

fn check_resource_id(resource_id: &str) -> Result<(), Status> {
    check_length("resource_id", resource_id, RESOURCE_ID_BYTES_MAX)
}

/// The record of a list of nodes.
fn record(field: &str, nodes: Vec<String>) -> Result<ReferenceCount, Status> {
    let count = nodes.len();
    if count > REFERENCES_MAX {
        let words = format!("{field}: {count} nodes, expected at most {REFERENCES_MAX}");
        return Err(Status::invalid_argument(words));
    }
    for (index, node) in nodes.iter().enumerate() {
        check_length(&format!("{field}[{index}]"), node, NODE_ID_BYTES_MAX)?;
    }
    Ok(nodes.into_iter().collect())
}

fn check_length(field: &str, name: &str, limit: usize) -> Result<(), Status> {
    let length = name.len();
    if (1..=limit).contains(&length) {
        return Ok(());
    }
    let words = format!("{field}: {length} bytes, expected 1 to {limit}");
    Err(Status::invalid_argument(words))
}

/// What a caller is told of a storage that failed.
fn status(error: StorageError) -> Status {
    let words = error.to_string();
    match error {
        StorageError::Corrupt { .. } => Status::data_loss(words),
        _ => Status::unavailable(words),
    }
}
