//! The HTTP port: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and stops servers.
//!
//! `/healthz` says that the process answers; `/readyz` that every shard does, and if not, why.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::service::Service;
use crate::telemetry::Telemetry;

/// What the pages are made of.
#[derive(Clone)]
struct Pages {
    /// Whether it is ready.
    service: Service,
    /// What it counted.
    telemetry: Arc<Telemetry>,
}

/// Serves the pages until the future is dropped.
pub async fn serve(listener: TcpListener, service: Service, telemetry: Arc<Telemetry>) -> std::io::Result<()> {
    let pages = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Pages { service, telemetry });
    axum::serve(listener, pages).await
}

/// Everything that was counted.
async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (headers, pages.telemetry.render(&pages.service))
}

/// Ready, or one reason per line. What the store is worth is said in either case.
async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    let store = pages.service.store();
    let store = format!("store {}: {}\n", store.name(), store.durability());
    match pages.service.ready() {
        Ok(()) => (StatusCode::OK, format!("ready\n{store}")),
        Err(reasons) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready\n{}\n{store}", reasons.join("\n")),
        ),
    }
}
