//! Compiles the bare service's messages, without `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=echo.proto");
    tonic_prost_build::compile_fds(protox::compile(["echo.proto"], ["."])?)?;
    Ok(())
}
