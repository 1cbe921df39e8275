//! Renewals: as many as a lease needs, none after its end; and the lines that say what was locked.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ticketlock::service::Service;
use ticketlock::telemetry::Telemetry;
use ticketlock_client::Client;
use ticketlock_client::locker::{LockOptions, LockerConfig};
use tracing_subscriber::fmt::MakeWriter;

use crate::place::counted;

const TTL: Duration = Duration::from_millis(600);

fn renewals(telemetry: &Telemetry, service: &Service) -> u64 {
    let page = telemetry.render(service);
    let lines = page
        .lines()
        .filter(|line| line.starts_with("ticketlock_renewals_total"));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Goal: a lock outlives many leases by about three renewals each, and once it is unlocked nothing is renewed any more.
/// Another lock that nobody renews is the clock.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_renewed_at_a_third_of_its_lease_and_not_after_its_unlock() {
    let (telemetry, service, address) = counted().await;
    let endpoint = format!("http://{address}");
    // On a session one heartbeat renews all: here each renewal is a call, and can be counted.
    let client = Client::builder().endpoint(endpoint).plain_streams(true).connect().await;
    let locker = LockerConfig::default()
        .build_on(client.expect("connected"))
        .expect("a locker");
    let options = || LockOptions::default().with_ttl(TTL);
    locker.lock("renewed", options()).await.expect("free");
    let leases = 5;
    for _ in 0..leases {
        locker
            .lock("clock", options().without_renewal())
            .await
            .expect("after the lease before");
    }
    assert!(locker.fencing_token("renewed").is_some(), "it is held still");
    // Each lock of the clock was confirmed by one call.
    let renewed = renewals(&telemetry, &service) - leases;
    // Between a quarter and a half of the lease, jitter and a slow machine included; four whole leases have passed.
    assert!((8..=20).contains(&renewed), "{renewed} renewals in {leases} leases");
    locker.unlock("renewed").await.expect("held");
    let before = renewals(&telemetry, &service);
    let leases = 2;
    for _ in 0..leases {
        locker
            .lock("clock", options().without_renewal())
            .await
            .expect("after the lease before");
    }
    assert_eq!(
        renewals(&telemetry, &service),
        before + leases,
        "nothing else is renewed after the unlock"
    );
}

/// What was written by the subscriber.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Goal: a grant is one line at `info` with namespace, key, token and wait, inside the caller's span.
#[tokio::test]
async fn a_grant_is_one_line_below_the_callers_namespace() {
    let engine = ticketlock::Embedded::memory().await.expect("an engine");
    let client = engine.client().connect().await.expect("a client");
    let config = LockerConfig {
        namespace: "user-service".to_owned(),
        ..LockerConfig::default()
    };
    let locker = config.build_on(client).expect("a locker");
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().json().with_writer(lines.clone()).finish();
    let _here = tracing::subscriber::set_default(subscriber);
    let span = tracing::info_span!("checkout");
    {
        use tracing::Instrument as _;
        let lock = locker.lock("resource:123", LockOptions::default());
        lock.instrument(span).await.expect("free");
    }
    let written = lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let text = String::from_utf8(written).expect("text");
    let line = text
        .lines()
        .find(|line| line.contains("lock acquired"))
        .expect("the line");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["level"], "INFO");
    let fields = &line["fields"];
    assert_eq!(fields["namespace"], "user-service.dlock");
    assert_eq!(fields["key"], "resource:123");
    assert_eq!(fields["fencing_token"].as_u64(), locker.fencing_token("resource:123"));
    assert!(fields["waited_ms"].is_u64(), "{fields}");
    assert_eq!(line["span"]["name"], "checkout");
}
