//! Connections: what each one was last heard of, how it came to its end, and what is open on it.
//!
//! HTTP/2 tells a stream that it is over, and not why. What becomes of a hold depends on it (rule T3): the client's own
//! end releases at once, silence lets the promised lease run out. So the incoming I/O is wrapped, and whoever holds a
//! stream asks its [`Connection`] at the moment when the stream is dropped. It knows bytes, and nothing of locks.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ticketlock_core::types::{DetachCause, Time};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::Connected;

use crate::service::Clock;
use crate::sync::{DashMap, Mutex, Notify};
use crate::telemetry::Telemetry;

/// Where connections come from: a TCP listener, or what a simulation puts in its place.
pub trait Listen: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Listen for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        // A grant is a small frame that somebody waits for.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// All open connections of a server.
pub struct Connections {
    /// By number.
    open: DashMap<u64, Arc<Connection>>,
    /// The next one's number.
    next: AtomicU64,
    /// Bound: open connections.
    open_max: usize,
    /// Nothing heard for longer than this is silence.
    silent_after: Duration,
    /// Whose time counts.
    clock: Clock,
    /// Counts them.
    telemetry: Arc<Telemetry>,
    /// Rings when one has closed.
    closed: Notify,
}

/// What is known of one connection.
pub struct Connection {
    /// When bytes last came in, in nanoseconds of the server's clock.
    last_read: AtomicU64,
    /// The client's side closed or reset it.
    closed_by_peer: AtomicBool,
    /// This side is to let go of it.
    doomed: AtomicBool,
    /// Woken when it is doomed.
    reader: Mutex<Option<Waker>>,
    /// Nothing heard for longer than this is silence.
    silent_after: Duration,
    /// Whose time counts.
    clock: Clock,
    /// Long-lived streams on it.
    streams: AtomicU32,
    /// Of them, those whose ticket waits.
    waiting: AtomicU32,
    /// Of them, those whose ticket holds.
    holding: AtomicU32,
}

/// A connection's bytes.
pub struct Io<T> {
    /// The bytes.
    inner: T,
    /// What is known of it.
    connection: Arc<Connection>,
    /// Where it is registered.
    connections: Arc<Connections>,
    /// Under this number.
    number: u64,
}

/// What requests carry of their connection.
#[derive(Clone)]
pub struct Peer(pub Arc<Connection>);

impl Connections {
    /// None open yet.
    #[must_use]
    pub fn new(open_max: u32, keepalive_timeout: Duration, clock: Clock, telemetry: Arc<Telemetry>) -> Arc<Self> {
        let open_max = usize::try_from(open_max).unwrap_or(usize::MAX);
        let silent_after = keepalive_timeout / 2;
        let (open, next) = (DashMap::default(), AtomicU64::new(0));
        Arc::new(Self {
            open,
            next,
            open_max,
            silent_after,
            clock,
            telemetry,
            closed: Notify::new(),
        })
    }

    /// Wraps a new connection; `None`: so many are open that this one is closed at once.
    pub fn admit<T>(self: &Arc<Self>, inner: T) -> Option<Io<T>> {
        if self.open.len() >= self.open_max {
            self.telemetry.connection_refused();
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(self.silent_after, self.clock));
        self.open.insert(number, Arc::clone(&connection));
        self.telemetry.connections(self.open.len());
        Some(Io {
            inner,
            connection,
            connections: Arc::clone(self),
            number,
        })
    }

    /// Waits until none is open.
    pub async fn until_empty(&self) {
        loop {
            // Order: listen before looking.
            let mut closed = std::pin::pin!(self.closed.notified());
            closed.as_mut().enable();
            if self.open.is_empty() {
                return;
            }
            closed.await;
        }
    }

    /// Ends every connection now.
    pub fn doom_all(&self) {
        for entry in self.open.iter() {
            entry.value().doom();
        }
    }
}

impl Connection {
    /// Just opened.
    fn new(silent_after: Duration, clock: Clock) -> Self {
        Self {
            last_read: AtomicU64::new(clock.now().0),
            closed_by_peer: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
            reader: Mutex::new(None),
            silent_after,
            clock,
            streams: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            holding: AtomicU32::new(0),
        }
    }

    /// How a stream that is dropped at this moment came to its end.
    #[must_use]
    pub fn cause(&self) -> DetachCause {
        if self.closed_by_peer.load(Ordering::SeqCst) {
            return DetachCause::Ended;
        }
        if self.doomed.load(Ordering::SeqCst) {
            return DetachCause::Silent;
        }
        // The reset of a stream is something that was heard, and so is the word that a client goes away, after which
        // the stack lets go of the connection before the client does. Server's clock, from the last bytes that came in.
        let last_read = Time(self.last_read.load(Ordering::SeqCst));
        if self.clock.now().since(last_read) > self.silent_after {
            DetachCause::Silent
        } else {
            DetachCause::Ended
        }
    }

    /// Long-lived streams on it.
    #[must_use]
    pub fn streams(&self) -> &AtomicU32 {
        &self.streams
    }

    /// Streams on it whose ticket waits.
    #[must_use]
    pub fn waiting(&self) -> &AtomicU32 {
        &self.waiting
    }

    /// Streams on it whose ticket holds.
    #[must_use]
    pub fn holding(&self) -> &AtomicU32 {
        &self.holding
    }

    /// Lets go of it at the next read.
    fn doom(&self) {
        self.doomed.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.lock().take() {
            reader.wake();
        }
    }

    /// Remembers an error that means that the peer is gone.
    fn note(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) {
            self.closed_by_peer.store(true, Ordering::SeqCst);
        }
    }

    /// Passes the outcome of a write on, and remembers how it failed.
    fn noted<V>(&self, outcome: Poll<io::Result<V>>) -> Poll<io::Result<V>> {
        if let Poll::Ready(Err(error)) = &outcome {
            self.note(error);
        }
        outcome
    }
}

impl<T> Drop for Io<T> {
    fn drop(&mut self) {
        self.connections.open.remove(&self.number);
        self.connections.telemetry.connections(self.connections.open.len());
        self.connections.closed.notify_waiters();
    }
}

impl<T> Connected for Io<T> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(Arc::clone(&self.connection))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Io<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let connection = &this.connection;
        let (filled, room) = (buffer.filled().len(), buffer.remaining());
        match Pin::new(&mut this.inner).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                if buffer.filled().len() > filled {
                    connection.last_read.store(connection.clock.now().0, Ordering::SeqCst);
                } else if room > 0 {
                    connection.closed_by_peer.store(true, Ordering::SeqCst);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                connection.note(&error);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                // Order: registered first, then looked, so that a doom in between is not missed.
                *connection.reader.lock() = Some(context.waker().clone());
                if connection.doomed.load(Ordering::SeqCst) {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                Poll::Pending
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Io<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.connection
            .noted(Pin::new(&mut this.inner).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.connection.noted(Pin::new(&mut this.inner).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.connection.noted(Pin::new(&mut this.inner).poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.connection
            .noted(Pin::new(&mut this.inner).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ticketlock_core::types::DetachCause;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::{Connection, Connections, Io};
    use crate::service::Clock;
    use crate::telemetry::Telemetry;

    /// A connection with a keep-alive timeout of 5 s, the client's end of it, and what is known of it.
    fn connected() -> (Io<DuplexStream>, DuplexStream, Arc<Connection>, Arc<Connections>) {
        let clock = Clock::new();
        let connections = Connections::new(1, Duration::from_secs(5), clock, Telemetry::new(clock, true));
        let (ours, theirs) = duplex(64);
        let io = connections.admit(ours).expect("the first one");
        let connection = Arc::clone(&io.connection);
        (io, theirs, connection, connections)
    }

    /// Goal: on a live connection, and on one that the peer closed, a stream's end is the client's own.
    #[tokio::test(start_paused = true)]
    async fn the_client_s_own_end() {
        let (mut io, mut theirs, connection, _connections) = connected();
        tokio::time::advance(Duration::from_secs(60)).await;
        theirs.write_all(b"reset").await.expect("written");
        io.read_exact(&mut [0; 5]).await.expect("read");
        assert_eq!(connection.cause(), DetachCause::Ended, "just heard of");
        drop(theirs);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(io.read(&mut [0; 5]).await.expect("the end"), 0);
        drop(io);
        assert_eq!(connection.cause(), DetachCause::Ended, "closed by the peer");
    }

    /// Goal: what was not heard of for longer than half the keep-alive timeout is silence, let go of or not; a client that
    /// was just heard of ended it, even where the stack let go of the connection first.
    #[tokio::test(start_paused = true)]
    async fn silence() {
        let (io, _theirs, connection, _connections) = connected();
        tokio::time::advance(Duration::from_millis(2_500)).await;
        assert_eq!(connection.cause(), DetachCause::Ended);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(connection.cause(), DetachCause::Silent);
        drop(io);
        assert_eq!(connection.cause(), DetachCause::Silent);
        let (io, _theirs, connection, _connections) = connected();
        drop(io);
        assert_eq!(connection.cause(), DetachCause::Ended);
    }

    /// Goal: a doomed connection ends at once, also while it waits, and that is no end of the client's.
    #[tokio::test(start_paused = true)]
    async fn doom() {
        let (mut io, _theirs, connection, connections) = connected();
        let reading = tokio::spawn(async move { io.read(&mut [0; 1]).await });
        tokio::task::yield_now().await;
        connections.doom_all();
        assert!(reading.await.expect("no panic").is_err());
        assert_eq!(connection.cause(), DetachCause::Silent);
        connections.until_empty().await;
    }

    /// Goal: beyond the limit a connection is closed at once, and one that closes makes room.
    #[tokio::test]
    async fn bounded() {
        let (io, _theirs, _connection, connections) = connected();
        assert!(connections.admit(duplex(1).0).is_none());
        drop(io);
        assert!(connections.admit(duplex(1).0).is_some());
    }
}
