//! The `ticketlock.v1` API: messages, client stubs, and (feature `server`) service traits, generated from the `.proto`
//! files beside this crate, which are the API's reference.
//!
//! Nothing here decides anything. The one hand-written part is [`codec`]: it makes a message that cannot be decoded
//! the caller's error instead of the server's.

pub mod codec;

/// The generated code.
#[expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("ticketlock.v1");
}

/// Descriptors of every file and import, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
