//! The wire: converts requests, maps refusals to statuses, and serves over HTTP/2. It decides nothing.
//!
//! Generated types stop here: [`convert`] turns them into the rules' own words and back, after it has checked every
//! length, range and encoding. [`status`] is the one place where a reason becomes a gRPC code. [`io`] knows how a
//! connection came to its end, which no other part can tell. Start reading at [`server`].

pub mod admin;
pub mod convert;
pub mod io;
pub mod layer;
pub mod lock;
pub mod news;
pub mod server;
pub mod session;
pub mod status;
pub mod streams;
pub mod view;

pub use io::Listen;
pub use server::{ServeError, Server, serve};
pub use status::ErrorReason;
