//! Which store an application's locks are kept in: named in a configuration, chosen at run time.
//!
//! A [`Backends`] knows by name how to get a [`Client`]. Alone this crate knows `remote`, a Ticketlock server; the server's
//! library adds `memory` and `file`, which run its rules inside the process, and an application adds its own. Names of
//! stores that are not there yet parse, and are refused with a message that says so.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Client, Error};

/// A boxed future, so that traits over it are object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store, by the name that configurations use.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BackendType {
    /// A Ticketlock server, whatever its store.
    #[default]
    Remote,
    /// In this process, gone with it.
    Memory,
    /// The same as `memory`.
    Embedded,
    /// In this process, kept in a directory.
    File,
    /// Redis. Not there yet.
    Redis,
    /// etcd. Not there yet.
    Etcd,
    /// MySQL or MariaDB. Not there yet.
    MySql,
    /// PostgreSQL. Not there yet.
    Postgres,
    /// One that the application registers under this name.
    Custom(String),
}

impl BackendType {
    /// As configurations spell it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Remote => "remote",
            Self::Memory => "memory",
            Self::Embedded => "embedded",
            Self::File => "file",
            Self::Redis => "redis",
            Self::Etcd => "etcd",
            Self::MySql => "mysql",
            Self::Postgres => "postgres",
            Self::Custom(name) => name,
        }
    }

    fn is_to_come(&self) -> bool {
        matches!(self, Self::Redis | Self::Etcd | Self::MySql | Self::Postgres)
    }
}

impl fmt::Display for BackendType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for BackendType {
    fn from(name: &str) -> Self {
        let known = [
            Self::Remote,
            Self::Memory,
            Self::Embedded,
            Self::File,
            Self::Redis,
            Self::Etcd,
            Self::MySql,
            Self::Postgres,
        ];
        let found = known.into_iter().find(|it| it.as_str() == name);
        found.unwrap_or_else(|| Self::Custom(name.to_owned()))
    }
}

impl FromStr for BackendType {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self::from(name))
    }
}

/// What a backend is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendConfig {
    /// Of `remote`: where the server is, `http://HOST:PORT`, tried in order. Default: `http://127.0.0.1:8476`.
    pub endpoints: Vec<String>,
    /// Of `file`: the directory. One process at a time has it.
    pub dir: Option<PathBuf>,
    /// Who asks: shown to everyone who waits. Default: host name, process id and a random part.
    pub owner: Option<String>,
}

impl BackendConfig {
    /// A builder with this owner and these endpoints.
    #[must_use]
    pub fn client_builder(&self) -> crate::ClientBuilder {
        let builder = Client::builder().endpoints(self.endpoints.iter().cloned());
        match &self.owner {
            Some(owner) => builder.owner(owner),
            None => builder,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The named store is not there yet.
    #[error("backend {name:?}: there is no {name} store in this version; there are {}", known.join(", "))]
    MissingStore {
        /// Which.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Nobody registered this name.
    #[error("backend {name:?} is not known; there are {}", known.join(", "))]
    UnknownBackend {
        /// Which.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A field is missing, or its value cannot be used.
    #[error("{field}: {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The text is not what the format asks for.
    #[error("{format}: {problem}")]
    Format {
        /// JSON, YAML or TOML.
        format: &'static str,
        /// Where, and what.
        problem: String,
    },
    /// The backend cannot be used now.
    #[error("backend {name:?}: {error}")]
    Connect {
        /// Which.
        name: String,
        /// Why.
        error: Box<Error>,
    },
}

/// A way to a store. The server's `Store` is what keeps records; this is how an application comes to a client of it.
pub trait Backend: Send + Sync {
    /// A client. What the store needs to live, the client keeps alive.
    fn connect<'a>(&'a self, config: &'a BackendConfig) -> BoxFuture<'a, Result<Client, Error>>;
}

/// A Ticketlock server.
struct Remote;

impl Backend for Remote {
    fn connect<'a>(&'a self, config: &'a BackendConfig) -> BoxFuture<'a, Result<Client, Error>> {
        Box::pin(config.client_builder().connect())
    }
}

/// The backends that a configuration can name.
///
/// ```no_run
/// # async fn f() -> Result<(), ticketlock_client::backend::ConfigError> {
/// use ticketlock_client::backend::{BackendConfig, BackendType, Backends};
///
/// let client = Backends::default().connect(&BackendType::Remote, &BackendConfig::default()).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Backends {
    by_name: BTreeMap<String, Arc<dyn Backend>>,
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Default for Backends {
    /// `remote` alone.
    fn default() -> Self {
        let remote: Arc<dyn Backend> = Arc::new(Remote);
        Self {
            by_name: BTreeMap::from([(BackendType::Remote.to_string(), remote)]),
        }
    }
}

impl Backends {
    /// Adds a backend, or replaces the one of this name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, backend: Arc<dyn Backend>) -> Self {
        self.by_name.insert(name.into(), backend);
        self
    }

    /// A client of the named backend.
    ///
    /// # Errors
    /// [`ConfigError::MissingStore`] or [`ConfigError::UnknownBackend`] where there is none of this name,
    /// [`ConfigError::Connect`] where it cannot be used.
    pub async fn connect(&self, name: &BackendType, config: &BackendConfig) -> Result<Client, ConfigError> {
        let backend = self.find(name)?;
        backend.connect(config).await.map_err(|error| ConfigError::Connect {
            name: name.to_string(),
            error: Box::new(error),
        })
    }

    /// The backend of this name.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), without trying it.
    pub fn find(&self, name: &BackendType) -> Result<&Arc<dyn Backend>, ConfigError> {
        self.by_name.get(name.as_str()).ok_or_else(|| {
            let known = self.by_name.keys().cloned().collect();
            let name_text = name.to_string();
            if name.is_to_come() {
                ConfigError::MissingStore { name: name_text, known }
            } else {
                ConfigError::UnknownBackend { name: name_text, known }
            }
        })
    }
}
