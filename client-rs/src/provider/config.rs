//! Which provider, from a configuration, and one object that owns it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{ClientLockProvider, LockProvider, ProviderError, WorkflowLockProvider};
use crate::backend::{BackendConfig, BackendType, Backends, ConfigError};

/// What a [`LockProvider`] is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct LockConfig {
    /// Where locks are kept. Default: `remote`.
    #[cfg_attr(feature = "serde", serde(with = "crate::format::name"))]
    pub provider: BackendType,
    /// Length of a lease where a request gives none. Default: 5 minutes.
    #[cfg_attr(feature = "serde", serde(with = "crate::format::duration"))]
    pub default_ttl: Duration,
    /// How often [`LockConfig::options`] tries again. Default: 3.
    pub default_retry_count: u32,
    /// How long between those tries. Default: 1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::format::duration"))]
    pub default_retry_delay: Duration,
    /// Of `remote`: where the server is, `http://HOST:PORT`, tried in order. Default: `http://127.0.0.1:8476`.
    pub endpoints: Vec<String>,
    /// Of `file`: the directory.
    pub dir: Option<PathBuf>,
    /// Of `mysql`: the table. Letters, digits and `_`, not beginning with a digit, up to 64. Default:
    /// `distributed_locks`.
    pub table_name: String,
}

impl Default for LockConfig {
    fn default() -> Self {
        Self {
            provider: BackendType::Remote,
            default_ttl: Duration::from_secs(5 * 60),
            default_retry_count: 3,
            default_retry_delay: Duration::from_secs(1),
            endpoints: Vec::new(),
            dir: None,
            table_name: "distributed_locks".to_owned(),
        }
    }
}

impl LockConfig {
    /// The profile of the orchestrator that this shape comes from: MySQL, 5 minutes, 3 retries a second apart.
    #[must_use]
    pub fn orchestrator() -> Self {
        Self {
            provider: BackendType::MySql,
            ..Self::default()
        }
    }

    /// A request with the configured lease and retries.
    #[must_use]
    pub fn options(&self, lock_key: impl Into<String>, owner: impl Into<String>) -> super::LockOptions {
        super::LockOptions {
            lock_key: lock_key.into(),
            owner: owner.into(),
            ttl: self.default_ttl,
            retry_count: self.default_retry_count,
            retry_delay: self.default_retry_delay,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        crate::locker::check_ttl(self.default_ttl)?;
        let name = &self.table_name;
        let plain = name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
        if !plain || name.is_empty() || name.len() > 64 || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(ConfigError::Field {
                field: "table_name",
                problem: format!("{name:?} must be 1 to 64 letters, digits and '_', not beginning with a digit"),
            });
        }
        Ok(())
    }
}

/// Makes providers of the backends that there are.
#[derive(Clone, Debug, Default)]
pub struct LockProviderFactory {
    backends: Backends,
}

impl LockProviderFactory {
    /// Of these backends.
    #[must_use]
    pub fn new(backends: Backends) -> Self {
        Self { backends }
    }

    /// The provider that the configuration names.
    ///
    /// # Errors
    /// A field that cannot be used, a store that is not there, or no way to it.
    pub async fn create_lock_provider(&self, config: &LockConfig) -> Result<Arc<dyn LockProvider>, ConfigError> {
        config.check()?;
        let backend = BackendConfig {
            endpoints: config.endpoints.clone(),
            dir: config.dir.clone(),
            owner: None,
        };
        let client = self.backends.connect(&config.provider, &backend).await?;
        Ok(Arc::new(ClientLockProvider::new(client, config.default_ttl)))
    }

    /// Locks for workflows over that provider.
    ///
    /// # Errors
    /// As [`create_lock_provider`](Self::create_lock_provider).
    pub async fn create_workflow_lock_provider(
        &self,
        config: &LockConfig,
    ) -> Result<WorkflowLockProvider, ConfigError> {
        Ok(WorkflowLockProvider::new(self.create_lock_provider(config).await?))
    }
}

/// One entry for an application: builds the provider, and shuts it down.
#[derive(Debug)]
pub struct LockManager {
    workflows: WorkflowLockProvider,
    config: LockConfig,
}

impl LockManager {
    /// Builds what the configuration names.
    ///
    /// # Errors
    /// As [`LockProviderFactory::create_lock_provider`].
    pub async fn new(factory: &LockProviderFactory, config: LockConfig) -> Result<Self, ConfigError> {
        let workflows = factory.create_workflow_lock_provider(&config).await?;
        Ok(Self { workflows, config })
    }

    /// Locks for workflows.
    #[must_use]
    pub fn workflow_lock_provider(&self) -> &WorkflowLockProvider {
        &self.workflows
    }

    /// What it was built from.
    #[must_use]
    pub fn config(&self) -> &LockConfig {
        &self.config
    }

    /// Closes the provider.
    ///
    /// # Errors
    /// As [`LockProvider::close`].
    pub async fn close(&self) -> Result<(), ProviderError> {
        self.workflows.close().await
    }
}
