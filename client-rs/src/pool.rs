//! Connections: one endpoint at a time out of an ordered list, and as many channels to it as its locks need.
//!
//! A server admits 240 long-lived streams per connection, so a channel that carries 200 is left alone and another one
//! is opened. Failing over is ours: a balanced channel would take a dead endpoint for a ready one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Error;
use crate::seams::{Dial, Io};

/// Bound: locks on one connection, below the server's 240.
const LOCKS_PER_CHANNEL: usize = 200;
/// Windows of this size keep the budget for small unread frames out of reach.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    /// A silent connection is pinged after this.
    pub keepalive_interval: Duration,
    /// A ping that is not answered for so long ends the connection.
    pub keepalive_timeout: Duration,
    /// Bound for one connection attempt.
    pub connect_timeout: Duration,
}

/// The endpoints, and the channels to the present one.
pub(crate) struct Pool {
    dial: Option<Dial>,
    transport: Transport,
    present: Mutex<Present>,
}

struct Present {
    /// In the order in which they are tried, as they were given and as they are used.
    endpoints: Vec<(String, Endpoint)>,
    /// Index of the endpoint in use.
    at: usize,
    /// Grows with each fail-over, so that several callers who saw the same failure cause one.
    generation: u64,
    channels: Vec<Slot>,
}

struct Slot {
    channel: Channel,
    /// Its clones count the locks on this channel.
    locks: Arc<()>,
}

/// A channel to put one lock's stream on; the place is free again when this is dropped.
pub(crate) struct Place {
    pub channel: Channel,
    pub generation: u64,
    _lock: Arc<()>,
}

impl Pool {
    /// Connects to the first endpoint that answers.
    pub(crate) async fn connect(urls: &[String], transport: &Transport, dial: Option<Dial>) -> Result<Self, Error> {
        let present = Present {
            endpoints: endpoints(urls, transport)?,
            at: 0,
            generation: 0,
            channels: Vec::new(),
        };
        let pool = Self {
            dial,
            transport: transport.clone(),
            present: Mutex::new(present),
        };
        let (at, channel) = pool.try_from(0).await?;
        let mut present = pool.present();
        present.at = at;
        present.channels.push(Slot {
            channel,
            locks: Arc::new(()),
        });
        drop(present);
        Ok(pool)
    }

    /// The channel for calls that end soon, and the generation it belongs to.
    pub(crate) fn unary(&self) -> Result<(Channel, u64), Error> {
        let present = self.present();
        let slot = present.channels.first().ok_or(Error::Closed)?;
        Ok((slot.channel.clone(), present.generation))
    }

    /// A channel with room for one more lock.
    pub(crate) fn place(&self) -> Result<Place, Error> {
        let mut present = self.present();
        let generation = present.generation;
        // One clone of `locks` is the slot's own.
        let free = present
            .channels
            .iter()
            .find(|it| Arc::strong_count(&it.locks) <= LOCKS_PER_CHANNEL);
        if let Some(slot) = free {
            return Ok(Place {
                channel: slot.channel.clone(),
                generation,
                _lock: Arc::clone(&slot.locks),
            });
        }
        let (_, endpoint) = present.endpoints.get(present.at).ok_or(Error::Closed)?;
        let channel = self.lazily(endpoint);
        let locks = Arc::new(());
        present.channels.push(Slot {
            channel: channel.clone(),
            locks: Arc::clone(&locks),
        });
        Ok(Place {
            channel,
            generation,
            _lock: locks,
        })
    }

    /// Goes on to the next endpoint that answers, unless somebody did so since `seen`. With one endpoint the channel
    /// itself connects anew.
    pub(crate) async fn fail_over(&self, seen: u64) {
        let from = {
            let present = self.present();
            if present.generation != seen || present.endpoints.len() < 2 {
                return;
            }
            present.at + 1
        };
        let Ok((at, channel)) = self.try_from(from).await else {
            return;
        };
        let mut present = self.present();
        if present.generation == seen {
            present.at = at;
            present.generation += 1;
            present.channels = vec![Slot {
                channel,
                locks: Arc::new(()),
            }];
        }
    }

    /// Tries every endpoint once, in order, beginning with the `from`-th.
    async fn try_from(&self, from: usize) -> Result<(usize, Channel), Error> {
        let mut last = Error::Argument("no endpoint".to_owned());
        let endpoints = self.present().endpoints.clone();
        for step in 0..endpoints.len() {
            let at = (from + step) % endpoints.len();
            let Some((_, endpoint)) = endpoints.get(at) else {
                continue;
            };
            let connected = match &self.dial {
                Some(dial) => endpoint.connect_with_connector(Connector(Arc::clone(dial))).await,
                None => endpoint.connect().await,
            };
            match connected {
                Ok(channel) => return Ok((at, channel)),
                Err(error) => {
                    last = Error::Connect {
                        endpoint: endpoint.uri().to_string(),
                        message: deepest(&error),
                    };
                }
            }
        }
        Err(last)
    }

    /// What was given.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.present().endpoints.iter().map(|(url, _)| url.clone()).collect()
    }

    /// Replaces the endpoints; whether the present one is left. What goes on over one that is still named goes on there.
    pub(crate) fn set_urls(&self, urls: &[String]) -> Result<bool, Error> {
        let endpoints = endpoints(urls, &self.transport)?;
        let mut present = self.present();
        let before = present.endpoints.get(present.at).map(|(url, _)| url.clone());
        let at = endpoints.iter().position(|(url, _)| Some(url) == before.as_ref());
        present.at = at.unwrap_or(0);
        present.endpoints = endpoints;
        // Order: who is about to go on to another endpoint counts by the list before.
        present.generation += 1;
        if at.is_none() {
            let first = present.endpoints.first().map(|(_, endpoint)| self.lazily(endpoint));
            present.channels = first
                .into_iter()
                .map(|channel| Slot {
                    channel,
                    locks: Arc::new(()),
                })
                .collect();
        }
        Ok(at.is_none())
    }

    fn lazily(&self, endpoint: &Endpoint) -> Channel {
        match &self.dial {
            Some(dial) => endpoint.connect_with_connector_lazy(Connector(Arc::clone(dial))),
            None => endpoint.connect_lazy(),
        }
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        // Nothing panics while this is held, so what a poisoned lock protects is whole.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn endpoints(urls: &[String], transport: &Transport) -> Result<Vec<(String, Endpoint)>, Error> {
    if urls.is_empty() {
        return Err(Error::Argument("no endpoint".to_owned()));
    }
    let with_url = |url: &String| Ok((url.clone(), endpoint(url, transport)?));
    urls.iter().map(with_url).collect()
}

/// Checks an endpoint's URL and applies the settings.
fn endpoint(url: &str, transport: &Transport) -> Result<Endpoint, Error> {
    let with_scheme = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let endpoint =
        Endpoint::from_shared(with_scheme).map_err(|error| Error::Argument(format!("endpoint {url:?}: {error}")))?;
    let uri = endpoint.uri();
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        return Err(Error::Argument(format!("endpoint {url:?}: expected http://HOST:PORT")));
    }
    Ok(endpoint
        .connect_timeout(transport.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(transport.keepalive_interval)
        .keep_alive_timeout(transport.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(1024 * 1024))
}

/// The innermost cause: "Connection refused" says more than "transport error".
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Hands an injected [`Dial`] to the channel.
#[derive(Clone)]
struct Connector(Dial);

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = std::io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default().to_owned();
        let dialed = (self.0)(host, uri.port_u16().unwrap_or(80));
        Box::pin(async move { Ok(TokioIo::new(dialed.await?)) })
    }
}
