//! Compiles the .proto files with protox, so that no `protoc` is needed, and keeps the descriptors for reflection.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["ticketlock/v1/service.proto", "ticketlock/v1/admin.proto"];
    println!("cargo:rerun-if-changed=ticketlock");
    // `protox::compile` keeps the imported files too: reflection must resolve google.protobuf.Duration.
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
