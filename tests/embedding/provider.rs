//! The provider and its workflow locks, on every backend.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ticketlock::Embedded;
use ticketlock::service::unix_seconds;
use ticketlock::store::{BoxFuture, Commit, CommitLimits, MemoryStore, Store, StoreError, Taken};
use ticketlock_client::backend::{self, Backend, BackendConfig, BackendType, Backends, ConfigError};
use ticketlock_client::provider::{
    LockConfig, LockManager, LockOptions, LockProviderFactory, ProviderError, WorkflowLockProvider,
};
use ticketlock_client::{Client, Error};
use ticketlock_core::record::Change;
use ticketlock_core::sharding::ShardCount;

use crate::place::{Place, counted, until};

fn options(key: &str, owner: &str) -> LockOptions {
    LockOptions {
        lock_key: key.to_owned(),
        owner: owner.to_owned(),
        ttl: Duration::ZERO,
        retry_count: 0,
        retry_delay: Duration::ZERO,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_refreshes_and_unlocks() {
    for place in Place::all().await {
        let provider = place.provider().await;
        provider.lock(options("k", "a")).await.expect("free");
        assert_eq!(provider.is_locked("k").await.expect("answered"), (true, "a".to_owned()));
        let other = |it: &Result<(), ProviderError>| matches!(it, Err(ProviderError::LockByOther { owner, .. }) if owner == "a");
        assert!(other(&provider.lock(options("k", "b")).await), "one try");
        assert!(other(&provider.unlock("k", "b").await));
        assert!(other(&provider.refresh_lock("k", "b", Duration::from_secs(60)).await));
        let looker = place.client("looker").await;
        let token = looker.get("k").await.expect("answered").holders[0].fencing_token;
        provider
            .refresh_lock("k", "a", Duration::from_secs(3600))
            .await
            .expect("its own");
        let holder = looker.get("k").await.expect("answered").holders.remove(0);
        assert!(holder.lease_left > Duration::from_secs(3500), "{holder:?}");
        assert_eq!(holder.fencing_token, token);
        // Another process that knows the owner speaks of the same lock.
        place.provider().await.unlock("k", "a").await.expect("its own");
        assert_eq!(provider.is_locked("k").await.expect("answered"), (false, String::new()));
        for refused in [
            provider.unlock("k", "a").await,
            provider.refresh_lock("k", "a", Duration::from_secs(9)).await,
        ] {
            assert!(matches!(refused, Err(ProviderError::NotFound { .. })), "{refused:?}");
        }
    }
}

/// An owner that locks again has its lease refreshed, under the same token, and one unlock ends it.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_may_lock_again() {
    for place in Place::all().await {
        let (provider, looker) = (place.provider().await, place.client("looker").await);
        let short = LockOptions {
            ttl: Duration::from_secs(20),
            ..options("k", "a")
        };
        provider.lock(short).await.expect("free");
        let before = looker.get("k").await.expect("answered").holders.remove(0);
        assert!(before.lease_left <= Duration::from_secs(20));
        provider.lock(options("k", "a")).await.expect("its own");
        let after = looker.get("k").await.expect("answered").holders.remove(0);
        assert_eq!(after.fencing_token, before.fencing_token);
        assert!(
            after.lease_left > Duration::from_secs(290),
            "the default, 5 minutes: {after:?}"
        );
        provider.unlock("k", "a").await.expect("its own");
        assert!(!provider.is_locked("k").await.expect("answered").0);
    }
}

/// Retries are one wait in line: the grant comes when the lock is free, not when the next try would have been due.
#[tokio::test(flavor = "multi_thread")]
async fn retries_are_a_wait_in_line() {
    for place in Place::all().await {
        let (provider, looker) = (place.provider().await, place.client("looker").await);
        provider.lock(options("k", "a")).await.expect("free");
        let patient = LockOptions {
            retry_count: 2,
            retry_delay: Duration::from_secs(30),
            ..options("k", "b")
        };
        let waiting = {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move { provider.lock(patient).await })
        };
        until(&looker, "k", |lock| lock.waiters.len() == 1).await;
        let began = Instant::now();
        provider.unlock("k", "a").await.expect("its own");
        waiting.await.expect("no panic").expect("granted");
        assert!(began.elapsed() < Duration::from_secs(15), "long before the next try");
        let hasty = LockOptions {
            retry_count: 3,
            retry_delay: Duration::from_millis(20),
            ..options("k", "c")
        };
        let (began, refused) = (Instant::now(), provider.lock(hasty).await);
        assert!(
            matches!(&refused, Err(ProviderError::LockByOther { owner, .. }) if owner == "b"),
            "{refused:?}"
        );
        assert!(began.elapsed() >= Duration::from_millis(60), "all its tries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lock_is_not_held() {
    for place in Place::all().await {
        let (provider, looker) = (place.provider().await, place.client("looker").await);
        let short = LockOptions {
            ttl: Duration::from_millis(200),
            ..options("k", "a")
        };
        provider.lock(short).await.expect("free");
        until(&looker, "k", |lock| lock.holders.is_empty()).await;
        assert!(!provider.is_locked("k").await.expect("answered").0);
        let refused = provider.refresh_lock("k", "a", Duration::from_secs(5)).await;
        assert!(matches!(refused, Err(ProviderError::NotFound { .. })), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_provider_says_so() {
    let (telemetry, service, address) = counted().await;
    let factory = LockProviderFactory::default();
    let config = LockConfig {
        endpoints: vec![format!("http://{address}")],
        ..LockConfig::default()
    };
    let provider = factory.create_lock_provider(&config).await.expect("a provider");
    provider.lock(options("k", "a")).await.expect("free");
    let is_alone = || {
        let page = telemetry.render(&service);
        page.lines().any(|line| line == "ticketlock_connections 0")
    };
    assert!(!is_alone(), "it has a connection");
    provider.close().await.expect("closed");
    let gone = async {
        while !is_alone() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("the connection is let go");
    let refused = [
        provider.lock(options("k", "a")).await,
        provider.unlock("k", "a").await,
        provider.refresh_lock("k", "a", Duration::from_secs(1)).await,
        provider.is_locked("k").await.map(drop),
    ];
    for refused in refused {
        let error = refused.expect_err("closed");
        assert!(error.to_string().starts_with("CLOSED"), "{error}");
    }
}

/// Who comes second to an execution is told at once; templates have names of their own, and are worth a wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_execution_runs_once_and_a_template_has_one_writer() {
    for place in Place::all().await {
        let workflows = WorkflowLockProvider::new(place.provider().await);
        let looker = place.client("looker").await;
        let execution = workflows.lock_workflow_execution("7").await.expect("free");
        assert_eq!(execution.lock_key(), "workflow_execution:7");
        assert_eq!((execution.execution_id(), execution.template_id()), ("7", ""));
        let (host, random) = execution.owner().rsplit_once('-').expect("host-random");
        assert!(!host.is_empty() && random.len() == 8 && random.chars().all(|it| it.is_ascii_hexdigit()));
        let left = looker.get(execution.lock_key()).await.expect("answered").holders[0].lease_left;
        assert!(
            left <= Duration::from_secs(300) && left > Duration::from_secs(290),
            "{left:?}"
        );
        let second = workflows.lock_workflow_execution("7").await.expect_err("it runs");
        assert!(second.to_string().contains("already running"), "{second}");

        let template = workflows.lock_workflow_template("7").await.expect("free: another kind");
        assert_eq!(template.lock_key(), "workflow_template:7");
        assert_eq!((template.execution_id(), template.template_id()), ("", "7"));
        let left = looker.get(template.lock_key()).await.expect("answered").holders[0].lease_left;
        assert!(
            left <= Duration::from_secs(600) && left > Duration::from_secs(590),
            "{left:?}"
        );
        template.refresh(Duration::from_secs(3000)).await.expect("held");
        let left = looker.get(template.lock_key()).await.expect("answered").holders[0].lease_left;
        assert!(left > Duration::from_secs(2900), "{left:?}");
        let next = workflows.lock_workflow_template("7");
        let free = async {
            until(&looker, "workflow_template:7", |lock| lock.waiters.len() == 1).await;
            template.unlock().await.expect("held");
        };
        let (next, ()) = tokio::join!(next, free);
        next.expect("it waited").unlock().await.expect("held");
        execution.unlock().await.expect("held");
        drop(workflows.lock_workflow_execution("7").await.expect("free again"));
        workflows.close().await.expect("closed");
    }
}

/// The defaults of the orchestrator are a profile; its store is not there yet, and the refusal says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_orchestrators_profile_is_known_and_its_store_named_as_missing() {
    let config = LockConfig::orchestrator();
    assert_eq!(config.provider, BackendType::MySql);
    assert_eq!(config.default_ttl, Duration::from_secs(300));
    assert_eq!(
        (config.default_retry_count, config.default_retry_delay),
        (3, Duration::from_secs(1))
    );
    assert_eq!(config.table_name, "distributed_locks");
    let place = &Place::all().await[1];
    let factory = LockProviderFactory::new(place.backends.clone());
    let refused = factory.create_lock_provider(&config).await.expect_err("not there");
    assert!(matches!(refused, ConfigError::MissingStore { .. }), "{refused:?}");
    for word in ["mysql", "file", "memory", "remote"] {
        assert!(refused.to_string().contains(word), "{refused}");
    }
    for name in ["", "1st", "locks; drop table users", &"x".repeat(65)] {
        let config = LockConfig {
            table_name: name.to_owned(),
            ..place.lock_config()
        };
        let refused = factory.create_lock_provider(&config).await.expect_err("a bad name");
        assert!(refused.to_string().starts_with("table_name: "), "{refused}");
    }
    let manager = LockManager::new(&factory, place.lock_config()).await.expect("built");
    let taken = manager.workflow_lock_provider().lock_workflow_execution("1").await;
    taken.expect("free").unlock().await.expect("held");
    manager.close().await.expect("closed");
    let refused = manager.workflow_lock_provider().lock_workflow_execution("1").await;
    assert!(matches!(refused, Err(ProviderError::Closed)), "{refused:?}");
}

/// A store of an application's own: it counts commits, and leaves the keeping to another one.
struct Counted {
    inner: MemoryStore,
    commits: Arc<std::sync::atomic::AtomicUsize>,
}

impl Store for Counted {
    fn store_id(&self) -> [u8; 16] {
        self.inner.store_id()
    }

    fn name(&self) -> &'static str {
        "counted"
    }

    fn durability(&self) -> &'static str {
        self.inner.durability()
    }

    fn limits(&self) -> CommitLimits {
        self.inner.limits()
    }

    fn outlives_the_process(&self) -> bool {
        false
    }

    fn take(&self, shard: u32) -> BoxFuture<'_, Result<Taken, StoreError>> {
        self.inner.take(shard)
    }

    fn commit(&self, shard: u32, epoch: u64, changes: Vec<Change>) -> Commit {
        self.commits.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.inner.commit(shard, epoch, changes)
    }

    fn give_back(&self, shard: u32, epoch: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.give_back(shard, epoch)
    }
}

/// The way to it, under the name that the application chose.
struct OnCounted(Embedded);

impl Backend for OnCounted {
    fn connect<'a>(&'a self, _: &'a BackendConfig) -> backend::BoxFuture<'a, Result<Client, Error>> {
        Box::pin(self.0.client().connect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_ones_own_is_implemented_and_registered() {
    let commits = Arc::default();
    let shards = ShardCount::new(8).expect("a power of two");
    let store = Counted {
        inner: MemoryStore::new([7; 16], shards, unix_seconds()),
        commits: Arc::clone(&commits),
    };
    let engine = Embedded::on_store(Arc::new(store), shards).await.expect("an engine");
    let backends = Backends::default().with("counted", Arc::new(OnCounted(engine)));
    let factory = LockProviderFactory::new(backends);
    let config = LockConfig {
        provider: BackendType::from("counted"),
        ..LockConfig::default()
    };
    let provider = factory.create_lock_provider(&config).await.expect("a provider");
    let before = commits.load(std::sync::atomic::Ordering::SeqCst);
    provider.lock(options("k", "a")).await.expect("free");
    assert!(commits.load(std::sync::atomic::Ordering::SeqCst) > before, "kept in it");
    provider.unlock("k", "a").await.expect("its own");
}
