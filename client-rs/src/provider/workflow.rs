//! Locks for workflows: one execution runs once, one template is changed by one at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{LockOptions, LockProvider, ProviderError};
use crate::seams::Random;

/// How a kind of workflow lock is taken. The defaults are those of the orchestrator that this shape comes from.
struct Kind {
    prefix: &'static str,
    ttl: Duration,
    retry_count: u32,
    retry_delay: Duration,
}

/// An execution runs once: who comes second is told so at once.
const EXECUTION: Kind = Kind {
    prefix: "workflow_execution:",
    ttl: Duration::from_secs(5 * 60),
    retry_count: 0,
    retry_delay: Duration::ZERO,
};

/// A template is worth a wait.
const TEMPLATE: Kind = Kind {
    prefix: "workflow_template:",
    ttl: Duration::from_secs(10 * 60),
    retry_count: 2,
    retry_delay: Duration::from_secs(5),
};

/// Takes the locks of workflows, each for an owner of its own: host name and a random part.
pub struct WorkflowLockProvider {
    provider: Arc<dyn LockProvider>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for WorkflowLockProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkflowLockProvider").field(&self.provider).finish()
    }
}

impl WorkflowLockProvider {
    /// Over any provider.
    #[must_use]
    pub fn new(provider: Arc<dyn LockProvider>) -> Self {
        let random = Arc::new(crate::seams::OsRandom);
        Self { provider, random }
    }

    /// Locks an execution under `workflow_execution:ID`, for 5 minutes at a time, in one try.
    ///
    /// # Errors
    /// [`ProviderError::AlreadyRunning`] where somebody else has it, or why it failed.
    pub async fn lock_workflow_execution(&self, execution_id: &str) -> Result<WorkflowLockHandle, ProviderError> {
        let mut handle = self.take(&EXECUTION, execution_id).await.map_err(|error| match error {
            ProviderError::LockByOther { key, owner } => ProviderError::AlreadyRunning { key, owner },
            error => error,
        })?;
        execution_id.clone_into(&mut handle.execution_id);
        Ok(handle)
    }

    /// Locks a template under `workflow_template:ID`, for 10 minutes at a time, waiting for up to 10 seconds.
    ///
    /// # Errors
    /// [`ProviderError::LockByOther`] where somebody else keeps it for longer, or why it failed.
    pub async fn lock_workflow_template(&self, template_id: &str) -> Result<WorkflowLockHandle, ProviderError> {
        let mut handle = self.take(&TEMPLATE, template_id).await?;
        template_id.clone_into(&mut handle.template_id);
        Ok(handle)
    }

    async fn take(&self, kind: &Kind, id: &str) -> Result<WorkflowLockHandle, ProviderError> {
        let lock_key = format!("{}{id}", kind.prefix);
        let owner = owner(self.random.as_ref());
        let options = LockOptions {
            lock_key: lock_key.clone(),
            owner: owner.clone(),
            ttl: kind.ttl,
            retry_count: kind.retry_count,
            retry_delay: kind.retry_delay,
        };
        self.provider.lock(options).await?;
        Ok(WorkflowLockHandle {
            provider: Arc::clone(&self.provider),
            lock_key,
            owner,
            execution_id: String::new(),
            template_id: String::new(),
        })
    }

    /// Closes the provider below.
    ///
    /// # Errors
    /// As [`LockProvider::close`].
    pub async fn close(&self) -> Result<(), ProviderError> {
        self.provider.close().await
    }
}

fn owner(random: &dyn Random) -> String {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    format!("{}-{:08x}", crate::client::host_name(), u32::from_be_bytes(bytes))
}

/// A workflow's lock that is held. Dropping it does nothing: it ends by [`unlock`](Self::unlock), or with its lease.
#[derive(Debug)]
pub struct WorkflowLockHandle {
    provider: Arc<dyn LockProvider>,
    lock_key: String,
    owner: String,
    execution_id: String,
    template_id: String,
}

impl WorkflowLockHandle {
    /// Gives the lock back.
    ///
    /// # Errors
    /// As [`LockProvider::unlock`].
    pub async fn unlock(&self) -> Result<(), ProviderError> {
        self.provider.unlock(&self.lock_key, &self.owner).await
    }

    /// Moves the lease's end to `ttl` from now.
    ///
    /// # Errors
    /// As [`LockProvider::refresh_lock`].
    pub async fn refresh(&self, ttl: Duration) -> Result<(), ProviderError> {
        self.provider.refresh_lock(&self.lock_key, &self.owner, ttl).await
    }

    /// The key.
    #[must_use]
    pub fn lock_key(&self) -> &str {
        &self.lock_key
    }

    /// Whom it is held for.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The execution; empty where it is a template's lock.
    #[must_use]
    pub fn execution_id(&self) -> &str {
        &self.execution_id
    }

    /// The template; empty where it is an execution's lock.
    #[must_use]
    pub fn template_id(&self) -> &str {
        &self.template_id
    }
}
