//! Compiles the .proto file of the service of counts, where that is wanted.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "service")]
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("ticketlock_proto::codec::Codec")
        .compile_fds(protox::compile(["ticketlock/refcount/v1/refcount.proto"], ["proto"])?)?;
    Ok(())
}
