//! How a node speaks to the lock server: plain data, checked where it is first used.

use std::time::Duration;

use crate::Error;
use crate::refcount::NODE_ID_BYTES_MAX;

/// How a node speaks to the lock server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Where servers are, each `http://HOST:PORT`, tried in order. At least one.
    pub endpoints: Vec<String>,
    /// Who this node is, to counts and to whoever waits for its locks: 1 to 256 bytes without control characters.
    pub node_id: String,
    /// How often a lock is asked for again after the server could not be reached, or not serve. 0: never. Default 5.
    pub max_retries: u32,
    /// The least pause before each retry; a server that names a longer one gets it. Default 200 ms.
    pub retry_interval: Duration,
    /// The most that one call takes with all its retries: for a lock this includes the wait in line, so it is to exceed
    /// the longest download. Default 10 min; not zero.
    pub request_timeout: Duration,
    /// Length of a lock's lease, which is renewed for as long as the process lives. Default: the server's.
    pub ttl: Option<Duration>,
}

impl ClientConfig {
    /// One server and a node, the rest by default.
    #[must_use]
    pub fn new(server_url: impl Into<String>, node_id: impl Into<String>) -> Self {
        Self {
            endpoints: vec![server_url.into()],
            node_id: node_id.into(),
            max_retries: 5,
            retry_interval: Duration::from_millis(200),
            request_timeout: Duration::from_secs(600),
            ttl: None,
        }
    }

    /// Refuses what can never work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.endpoints.is_empty() {
            return Err(Error::argument("endpoints", "none", "at least 1"));
        }
        let length = self.node_id.len();
        if !(1..=NODE_ID_BYTES_MAX).contains(&length) {
            let limit = format!("1 to {NODE_ID_BYTES_MAX}");
            return Err(Error::argument("node_id", format!("{length} bytes"), limit));
        }
        if self.node_id.chars().any(char::is_control) {
            return Err(Error::argument("node_id", "a control character", "none"));
        }
        if self.request_timeout.is_zero() {
            return Err(Error::argument("request_timeout", "0", "more than 0"));
        }
        Ok(())
    }
}
