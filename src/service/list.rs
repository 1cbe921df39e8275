//! Pages of keys over all shards, in byte order.
//!
//! Each shard is asked for a few keys at a time, and the smallest key of all goes next, so that a page costs little
//! more than what it shows, and no shard is held for a whole page.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use ticketlock_core::output::KeyView;

use super::error::ServiceError;
use super::runtime::Runtime;

/// Keys that a shard is asked for at once, at least.
const CHUNK_MIN: usize = 8;

/// What to list.
pub(super) struct Query<'a> {
    /// Keys that begin with this.
    pub(super) prefix: &'a str,
    /// Keys after this one.
    pub(super) after: Option<&'a str>,
    /// At most so many.
    pub(super) limit: usize,
    /// Waiters shown per key.
    pub(super) waiters_limit: usize,
}

/// What was fetched from one shard and not yet given.
#[derive(Default)]
struct Source {
    /// In byte order.
    views: VecDeque<KeyView>,
    /// There is more behind the last one.
    more: bool,
}

/// One page.
pub(super) async fn list(runtime: &Arc<Runtime>, query: &Query<'_>) -> Result<Vec<KeyView>, ServiceError> {
    let chunk = (2 * query.limit / runtime.slots.len().max(1))
        .max(CHUNK_MIN)
        .min(query.limit.max(1));
    let mut sources = Vec::new();
    let mut heads = BinaryHeap::new();
    for (index, slot) in runtime.slots.iter().enumerate() {
        let source = fetch(runtime, slot.number, query, query.after, chunk).await?;
        heads.extend(source.views.front().map(|view| Reverse((Arc::clone(&view.key), index))));
        sources.push((slot.number, source));
    }
    let mut page = Vec::new();
    while page.len() < query.limit {
        let Some(Reverse((key, index))) = heads.pop() else {
            break;
        };
        let Some((shard, source)) = sources.get_mut(index) else {
            break;
        };
        page.extend(source.views.pop_front());
        if source.views.is_empty() && source.more {
            *source = fetch(runtime, *shard, query, Some(&key), chunk).await?;
        }
        heads.extend(source.views.front().map(|view| Reverse((Arc::clone(&view.key), index))));
    }
    Ok(page)
}

/// The next few keys of a shard.
async fn fetch(
    runtime: &Arc<Runtime>,
    shard: u32,
    query: &Query<'_>,
    after: Option<&str>,
    chunk: usize,
) -> Result<Source, ServiceError> {
    let read = runtime.slot(shard).step(
        runtime,
        |rules, now, _| rules.list(query.prefix, after, chunk, query.waiters_limit, now),
        |_, _| {},
    );
    let views = read.answer().await?;
    Ok(Source {
        more: views.len() >= chunk,
        views: views.into(),
    })
}
