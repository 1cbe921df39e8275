//! Text from people and programs: keys, owners, prefixes, page tokens, numbers of shards, values on the command line.
//!
//! What a key may be is said here a second time, in other words than in `convert`, so that the two can differ.

/// The command's own parsers: a binary exports nothing.
#[path = "../../src/cli/values.rs"]
mod values;

use ticketlock::config::Limits;
use ticketlock::grpc::convert;
use ticketlock_core::sharding::{SHARDS_MAX, ShardCount};
use values::{OnDisconnect, StoreUrl};

/// One text as everything that it could be.
pub(crate) fn run(text: &str) {
    let limits = Limits::default();
    names(text, &limits);
    page_tokens(text, &limits);
    shards(text);
    durations(text);
    others(text);
}

fn names(text: &str, limits: &Limits) {
    let clean = !text.chars().any(char::is_control);
    let (key_max, owner_max) = (limits.key_bytes_max, limits.owner_bytes_max);
    for (name, taken, fits) in [
        ("key", convert::key(text, limits), (1..=key_max).contains(&text.len())),
        (
            "owner",
            convert::owner(text, limits),
            (1..=owner_max).contains(&text.len()),
        ),
        ("prefix", convert::prefix(text, limits), text.len() <= key_max),
    ] {
        assert_eq!(taken.is_ok(), clean && fits, "{name} {text:?}");
        assert!(
            taken.is_ok_and(|it| *it == *text) || !(clean && fits),
            "{name} {text:?}: another one"
        );
    }
}

/// A page token goes on after the key that it was made of, and whatever else is taken for one names a single key.
fn page_tokens(text: &str, limits: &Limits) {
    if (1..=limits.key_bytes_max).contains(&text.len()) {
        let token = convert::to_page_token(text);
        let after = convert::page_token(&token, limits);
        assert_eq!(after.as_ref().map(Option::as_deref), Ok(Some(text)));
    }
    if let Ok(Some(after)) = convert::page_token(text, limits) {
        let token = convert::to_page_token(&after);
        assert!(token.eq_ignore_ascii_case(text), "{text:?} is read as {token}");
    }
}

fn shards(text: &str) {
    if let Some(count) = text.parse().ok().and_then(ShardCount::new) {
        let count = count.get();
        assert!(count.count_ones() == 1 && count <= SHARDS_MAX, "{count} shards");
    }
    let mut before = 0;
    for count in (0..=10).filter_map(|power| ShardCount::new(1 << power)) {
        let shard = count.shard_of(text);
        assert!(shard < count.get(), "{text:?} in shard {shard}");
        // Twice as many shards split each in two, and mix nothing.
        assert_eq!(shard & (count.get() / 2).saturating_sub(1), before, "{text:?}");
        before = shard;
    }
}

fn durations(text: &str) {
    let span = values::parse_duration(text);
    let positive = span.as_ref().is_ok_and(|span| !span.is_zero());
    assert_eq!(values::parse_positive(text).is_ok(), positive, "{text:?}");
    if let Ok(span) = span {
        let said = humantime::format_duration(span).to_string();
        assert_eq!(values::parse_duration(&said), Ok(span), "{text:?} is {said}");
    }
}

fn others(text: &str) {
    if let Ok((name, value)) = values::parse_pair(text) {
        assert!(!name.contains('=') && format!("{name}={value}") == text, "{text:?}");
    }
    match values::parse_on_disconnect(text) {
        Ok(OnDisconnect::Release) => assert_eq!(text, "release"),
        Ok(OnDisconnect::Lease) => assert_eq!(text, "lease"),
        Ok(policy @ OnDisconnect::Grace(span)) => {
            let said = format!("grace={}", humantime::format_duration(span));
            assert_eq!(values::parse_on_disconnect(&said), Ok(policy), "{text:?} is {said}");
        }
        Err(_) => {}
    }
    match values::parse_store(text) {
        Ok(StoreUrl::Memory) => assert!(["memory", "memory:"].contains(&text), "{text:?}"),
        Ok(StoreUrl::File(dir)) => {
            let said = format!("file:{}", dir.display());
            assert!(said == text && !dir.as_os_str().is_empty(), "{text:?} is {said}");
        }
        Err(_) => {}
    }
}
