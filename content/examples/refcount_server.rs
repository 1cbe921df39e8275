//! Serves reference counts for nodes that share no directory of counts, until Ctrl-C: `cargo run -p ticketlock-content
//! --example refcount_server -- 127.0.0.1:8477 FOLDER`.

use std::io::Write as _;

use ticketlock_content::{FileStorage, service};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (address, folder) = arguments
        .next()
        .zip(arguments.next())
        .ok_or("usage: refcount_server HOST:PORT FOLDER")?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    writeln!(
        std::io::stdout(),
        "counts in {folder}, at http://{}",
        listener.local_addr()?
    )?;
    let until = async {
        // Without the signal there is nothing to wait for.
        let _ = tokio::signal::ctrl_c().await;
    };
    service::serve(FileStorage::open(folder)?, listener, until).await?;
    Ok(())
}
