//! The configuration of a locker: a plain structure, and where features ask for it, its text forms.

use std::path::PathBuf;
use std::time::Duration;

use crate::backend::{BackendConfig, BackendType, ConfigError};

/// What a [`Locker`](super::Locker) is built from.
///
/// As text (features `json`, `yaml`, `toml`), with durations as in `10s` or `1m 30s`:
///
/// ```yaml
/// backend: remote
/// endpoints: ["http://lock-a:8476"]
/// prefix: "dlock:"
/// default_ttl: 10s
/// retry_interval: 100ms
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct LockerConfig {
    /// Where locks are kept. Default: `remote`.
    #[cfg_attr(feature = "serde", serde(with = "crate::format::name"))]
    pub backend: BackendType,
    /// Every key begins with it. One word that ends in `:` or `/` and has neither before that, so that two prefixes never name
    /// the same key; or empty, which separates nothing. Default: `dlock:`.
    pub prefix: String,
    /// Length of a lease where the call gives none, 100 ms to 24 h. Default: 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::format::duration"))]
    pub default_ttl: Duration,
    /// For stores that have to be asked again and again whether a lock is free. None of the present ones is: a grant is
    /// pushed, so it is not used. Default: 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::format::duration"))]
    pub retry_interval: Duration,
    /// The application's name in log lines, which say `NAMESPACE.dlock`.
    pub namespace: String,
    /// Of `remote`: where the server is, `http://HOST:PORT`, tried in order. Default: `http://127.0.0.1:8476`.
    pub endpoints: Vec<String>,
    /// Of `file`: the directory.
    pub dir: Option<PathBuf>,
    /// Who asks: shown to everyone who waits. Default: host name, process id and a random part.
    pub owner: Option<String>,
}

impl Default for LockerConfig {
    fn default() -> Self {
        Self {
            backend: BackendType::default(),
            prefix: "dlock:".to_owned(),
            default_ttl: Duration::from_secs(10),
            retry_interval: Duration::from_millis(100),
            namespace: String::new(),
            endpoints: Vec::new(),
            dir: None,
            owner: None,
        }
    }
}

/// Limits of the server, so that a configuration is refused before the first lock is.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(24 * 3600);

/// A configured length of leases.
pub(crate) fn check_ttl(ttl: Duration) -> Result<(), ConfigError> {
    match TTL.contains(&ttl) {
        true => Ok(()),
        false => Err(ConfigError::Field {
            field: "default_ttl",
            problem: format!("{ttl:?} is not within 100 ms to 24 h"),
        }),
    }
}

impl LockerConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let word = self.prefix.strip_suffix([':', '/']);
        if !self.prefix.is_empty() && word.is_none_or(|word| word.is_empty() || word.contains([':', '/'])) {
            let problem = format!(
                "{:?} must be one word that ends in ':' or '/' and has neither before that, or two prefixes could name \
                 the same key",
                self.prefix
            );
            return Err(ConfigError::Field {
                field: "prefix",
                problem,
            });
        }
        check_ttl(self.default_ttl)
    }

    /// The key under which the store knows `key`.
    #[must_use]
    pub fn store_key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn backend_config(&self) -> BackendConfig {
        BackendConfig {
            endpoints: self.endpoints.clone(),
            dir: self.dir.clone(),
            owner: self.owner.clone(),
        }
    }
}
