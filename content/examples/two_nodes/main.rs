//! Two nodes use the counts and the lock directly, without a writer: `cargo run -p ticketlock-content --example
//! two_nodes -- SERVER_URL`.

use std::io::Write as _;

mod story;

#[tokio::main]
async fn main() -> Result<(), story::Failure> {
    let server_url = std::env::args().nth(1).ok_or("usage: two_nodes SERVER_URL")?;
    let told = story::run(&server_url).await?;
    let mut out = std::io::stdout().lock();
    for line in told.lines {
        writeln!(out, "{line}")?;
    }
    writeln!(
        out,
        "downloads: {}, nodes that refer to it: {}",
        told.downloads, told.references
    )?;
    Ok(())
}
