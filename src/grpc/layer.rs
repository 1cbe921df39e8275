//! What every call passes: its latency is taken, and a status that the stack below made by itself gets a reason.
//!
//! The HTTP/2 and gRPC stack refuses some requests before a service sees them: too large, undecodable, unknown. Its
//! statuses carry no details, and clients switch on reasons.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::status::{ErrorReason, Failure};
use crate::telemetry::{Rpc, Telemetry};

/// Puts a [`Watched`] around a service.
#[derive(Clone)]
pub struct WatchLayer {
    /// Takes the latencies.
    telemetry: Arc<Telemetry>,
}

/// A service that is looked at.
#[derive(Clone)]
pub struct Watched<S> {
    /// Does it.
    inner: S,
    /// Takes the latencies.
    telemetry: Arc<Telemetry>,
}

impl WatchLayer {
    /// Tells `telemetry`.
    #[must_use]
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { telemetry }
    }
}

impl<S> Layer<S> for WatchLayer {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched {
            inner,
            telemetry: Arc::clone(&self.telemetry),
        }
    }
}

impl<S> Service<http::Request<Body>> for Watched<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let rpc = Rpc::of_path(request.uri().path());
        let started = self.telemetry.now();
        let telemetry = Arc::clone(&self.telemetry);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let bare = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok);
            let Some(status) = bare else {
                telemetry.answered(rpc, Code::Ok, started);
                return Ok(response);
            };
            let failure = if status.details().is_empty() {
                explained(rpc, &status)
            } else {
                None
            };
            let code = failure.as_ref().map_or(status.code(), |failure| failure.reason.code());
            telemetry.answered(rpc, code, started);
            Ok(match failure {
                Some(failure) => telemetry.failed(failure).into_http(),
                None => response,
            })
        })
    }
}

/// The reason behind a status without details; `None`: it stands for itself (health and reflection have their own).
fn explained(rpc: Rpc, status: &Status) -> Option<Failure> {
    let reason = match status.code() {
        Code::Unimplemented => ErrorReason::Unimplemented,
        _ if rpc == Rpc::Other => return None,
        Code::OutOfRange | Code::ResourceExhausted => ErrorReason::MessageTooLarge,
        Code::InvalidArgument if status.message().contains(".key: ") => ErrorReason::InvalidKey,
        // What the stack calls its own failure is a message that is cut short, missing or wrongly framed.
        Code::InvalidArgument | Code::Internal | Code::Unknown => ErrorReason::MalformedRequest,
        Code::DeadlineExceeded | Code::Cancelled => ErrorReason::DeadlineExceeded,
        _ => return None,
    };
    let message = match (reason, status.message()) {
        (ErrorReason::Unimplemented, "") => "this server has no such call",
        (_, message) => message,
    };
    Some(Failure::new(reason, message))
}
