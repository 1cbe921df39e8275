//! Pulls every layer of an OCI image into a directory that several nodes share: `cargo run -p ticketlock-content
//! --example pull_layers -- SERVER_URL NODE_ID DIRECTORY LAYOUT`. Run it several times at once, with several node ids:
//! each layer is downloaded once.

mod pull;

#[tokio::main]
async fn main() -> Result<(), pull::Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    pull::run(&arguments).await
}
