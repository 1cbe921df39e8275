//! Configurations: three formats, and what is refused before anything is connected.

use std::time::Duration;

use ticketlock_client::backend::{BackendType, Backends, ConfigError};
use ticketlock_client::format;
use ticketlock_client::locker::{Locker, LockerConfig};
use ticketlock_client::provider::LockConfig;

use crate::place::Place;

#[test]
fn three_formats_say_the_same() {
    let json =
        r#"{"backend": "file", "prefix": "app:", "default_ttl": "1m 30s", "retry_interval": "250ms", "dir": "locks"}"#;
    let yaml = "backend: file\nprefix: 'app:'\ndefault_ttl: 1m 30s\nretry_interval: 250ms\ndir: locks\n";
    let toml = "backend = 'file'\nprefix = 'app:'\ndefault_ttl = '1m 30s'\nretry_interval = '250ms'\ndir = 'locks'\n";
    let expected = LockerConfig {
        backend: BackendType::File,
        prefix: "app:".to_owned(),
        default_ttl: Duration::from_secs(90),
        retry_interval: Duration::from_millis(250),
        dir: Some("locks".into()),
        ..LockerConfig::default()
    };
    assert_eq!(format::from_json::<LockerConfig>(json).expect("JSON"), expected);
    assert_eq!(format::from_yaml::<LockerConfig>(yaml).expect("YAML"), expected);
    assert_eq!(format::from_toml::<LockerConfig>(toml).expect("TOML"), expected);
    let written = serde_json::to_string(&expected).expect("written");
    assert_eq!(
        format::from_json::<LockerConfig>(&written).expect("read again"),
        expected
    );
    let empty = format::from_yaml::<LockerConfig>("{}").expect("everything has a default");
    assert_eq!(empty, LockerConfig::default());
    assert_eq!(
        (empty.default_ttl.as_secs(), empty.retry_interval.as_millis()),
        (10, 100)
    );
    let provider =
        format::from_toml::<LockConfig>("provider = 'memory'\ndefault_ttl = '10m'\ntable_name = 'custom_locks'");
    let provider = provider.expect("TOML");
    assert_eq!(
        (provider.default_ttl.as_secs(), provider.table_name.as_str()),
        (600, "custom_locks")
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_name() {
    for (text, words) in [
        (r#"{"default_ttl": 10}"#, vec!["default_ttl", "line 1"]),
        (r#"{"default_ttl": "10 parsecs"}"#, vec!["10 parsecs", "10s"]),
        (
            r#"{"retry_intervall": "1s"}"#,
            vec!["retry_intervall", "retry_interval"],
        ),
        (r#"{"backend": 7}"#, vec!["string"]),
        ("{", vec!["JSON", "EOF"]),
    ] {
        let error = format::from_json::<LockerConfig>(text).expect_err(text).to_string();
        // serde names the field of a wrong type by its place only.
        let found = |word: &&str| error.contains(*word) || (*word == "default_ttl" && error.contains("column"));
        assert!(words.iter().all(found), "{text}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_checked_before_anything_is_connected() {
    let place = &Place::all().await[1];
    for prefix in ["dlock", ":", "team/locks/", "a:b:", "/"] {
        let config = LockerConfig {
            prefix: prefix.to_owned(),
            ..place.locker_config("me")
        };
        let refused = config.build(&place.backends).await.expect_err(prefix);
        assert!(refused.to_string().starts_with("prefix: "), "{refused}");
    }
    for ttl in [
        Duration::ZERO,
        Duration::from_millis(99),
        Duration::from_secs(24 * 3600 + 1),
    ] {
        let config = LockerConfig {
            default_ttl: ttl,
            ..place.locker_config("me")
        };
        let refused = config.build(&place.backends).await.expect_err("out of range");
        assert!(refused.to_string().starts_with("default_ttl: "), "{refused}");
    }
    for (name, missing) in [
        ("redis", true),
        ("etcd", true),
        ("mysql", true),
        ("postgres", true),
        ("oracle", false),
    ] {
        let config = LockerConfig {
            backend: BackendType::from(name),
            ..place.locker_config("me")
        };
        let refused = config.build(&place.backends).await.expect_err(name);
        assert_eq!(
            matches!(refused, ConfigError::MissingStore { .. }),
            missing,
            "{refused:?}"
        );
        assert_eq!(
            matches!(refused, ConfigError::UnknownBackend { .. }),
            !missing,
            "{refused:?}"
        );
        assert!(
            refused.to_string().contains(name) && refused.to_string().contains("file, memory, remote"),
            "{refused}"
        );
    }
    let config = LockerConfig {
        backend: BackendType::File,
        dir: None,
        ..LockerConfig::default()
    };
    let refused = config.build(&place.backends).await.expect_err("no directory");
    assert!(refused.to_string().contains("dir"), "{refused}");
    let none = LockerConfig::build_optional(None, &Backends::default())
        .await
        .expect("nothing to do");
    assert!(none.is_none());
    let some = LockerConfig::build_optional(Some(place.locker_config("me")), &place.backends).await;
    assert!(some.expect("built").is_some());
}

/// Two prefixes never name the same key, whatever follows them.
#[test]
fn prefixes_do_not_collide() {
    let of = |prefix: &str| LockerConfig {
        prefix: prefix.to_owned(),
        ..LockerConfig::default()
    };
    let prefixes = ["a:", "a/", "ab:", "b/", "dlock:"];
    let keys = ["x", "b:x", "a:x", ":", "/", "b/:x", "lock:a"];
    let mut seen = std::collections::BTreeMap::new();
    for prefix in prefixes {
        for key in keys {
            let before = seen.insert(of(prefix).store_key(key), (prefix, key));
            assert_eq!(before, None, "{prefix} and {key}");
        }
    }
}

/// What applications hold is a trait object that threads can share.
#[test]
fn a_locker_is_object_safe() {
    fn shared<T: Send + Sync + ?Sized>() {}
    shared::<dyn Locker>();
    shared::<dyn ticketlock_client::provider::LockProvider>();
}
