//! The service with a lock component: constructed both ways, and its guard's drop gives back.

use std::fs;

use crate::stage::Stage;

/// With the defaults: the default prefix and lease; what the guard held is free for the next call, and free at the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_starts_with_the_defaults() {
    let stage = Stage::new().await;
    let output = stage.run("locker_service", &[]).await;
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = told.lines().collect();
    let [processed, lease, shipped] = lines.as_slice() else {
        panic!("{told}");
    };
    let token = |line: &str, beginning| -> u64 {
        let token = line.strip_prefix(beginning).expect(beginning);
        token.parse().expect("a number")
    };
    let processed = token(processed, "processed under dlock:order:123 with token ");
    assert_eq!(*lease, "lease of 10 s");
    assert!(token(shipped, "shipped with token ") > processed, "{told}");
    stage.until("dlock:order:123", |lock| lock.holders.is_empty()).await;
}

/// With a configuration in each format; one that is wrong is refused, by the name of its field.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_starts_as_configured() {
    let stage = Stage::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let start = async |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("written");
        stage.run("locker_service", &[file.to_str().expect("utf-8")]).await
    };
    for (name, text) in [
        (
            "service.json",
            r#"{"prefix": "shop/", "default_ttl": "30s", "owner": "shop-1"}"#,
        ),
        ("service.yaml", "prefix: shop/\ndefault_ttl: 30s\nowner: shop-1\n"),
        (
            "service.toml",
            "prefix = 'shop/'\ndefault_ttl = '30s'\nowner = 'shop-1'\n",
        ),
    ] {
        let output = start(name, text).await;
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            told.starts_with("processed under shop/order:123 with token "),
            "{name}: {told}"
        );
        assert!(told.contains("lease of 30 s\n"), "{name}: {told}");
    }
    for (name, text, fault) in [
        (
            "short.toml",
            "default_ttl = '1ms'",
            "default_ttl: 1ms is not within 100 ms to 24 h",
        ),
        ("field.yaml", "prefixes: shop/\n", "prefixes"),
        (
            "store.json",
            r#"{"backend": "redis"}"#,
            "there is no redis store in this version",
        ),
        ("format.ini", "", "ends in .json, .yaml or .toml"),
    ] {
        let output = start(name, text).await;
        assert_eq!(output.status.code(), Some(1), "{name}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            told.starts_with("locker_service: ") && told.contains(fault),
            "{name}: {told}"
        );
    }
}
