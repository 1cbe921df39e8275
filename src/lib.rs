//! The server library: the shell around the rules of `ticketlock-core`.
//!
//! One way: [`grpc`] converts a request, [`service`] has the shard's rules applied, a [`store`] commits what they
//! changed, and only then do replies and events leave. [`http`] and [`telemetry`] look on. Start reading at
//! [`service`]; what can be tuned is in [`config`].

pub mod config;
pub mod embedded;
pub mod grpc;
pub mod http;
pub mod service;
pub mod store;
pub mod sync;
pub mod telemetry;

pub use config::ServerConfig;
pub use embedded::Embedded;
pub use service::Service;
pub use store::Store;
