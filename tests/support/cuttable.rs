//! A way to a server that a test can cut.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A way to the server that a test can cut: while the flag is set, no connection lives.
pub async fn cuttable(server: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (cut, cuts) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let Ok((mut near, _)) = listener.accept().await else {
                return;
            };
            let mut cuts = cuts.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(server).await.expect("the server listens");
                tokio::select! {
                    biased;
                    _ = cuts.wait_for(|cut| *cut) => {}
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                }
            });
        }
    });
    (address, cut)
}
