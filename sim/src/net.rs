//! The simulated network at the server's and the client's seams.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ticketlock::grpc::Listen;
use ticketlock_client::seams::{Dial, Io};
use turmoil::net::{TcpListener, TcpStream};

/// The server's name and port.
pub const SERVER: (&str, u16) = ("server", 8476);

/// Where the simulated server listens.
pub struct Listening(TcpListener);

impl Listening {
    /// On the server's host.
    pub async fn begin() -> io::Result<Self> {
        Ok(Self(TcpListener::bind(("0.0.0.0", SERVER.1)).await?))
    }
}

impl Listen for Listening {
    type Io = TcpStream;

    fn accept(&mut self) -> impl Future<Output = io::Result<TcpStream>> + Send {
        let listener = &self.0;
        async move { Ok(listener.accept().await?.0) }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Connects from a client's host.
#[must_use]
pub fn dial() -> Dial {
    Arc::new(|host, port| {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    })
}
