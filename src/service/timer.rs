//! One timer per shard: it sleeps until the rules' next deadline, then has them handle what is due, a bounded number
//! at a time, so that commands get their turns in between.

use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::types::Time;

use super::runtime::Runtime;
use super::slot::Phase;

/// After a stall (T1), what has arrived meanwhile is applied before timers: they wait this long for it.
const STALL_SETTLE: Duration = Duration::from_millis(50);

/// What the timer does next.
enum Next {
    /// Goes on at once.
    Again,
    /// Sleeps until then, or until a deadline comes earlier.
    At(Time),
    /// Waits for what has arrived, then goes on.
    Settle,
    /// Ends.
    End,
}

/// Runs until the shard is closed.
pub(super) async fn keep_time(runtime: &Arc<Runtime>, shard: u32) {
    let slot = runtime.slot(shard);
    let mut settled = false;
    loop {
        match turn(runtime, shard, settled) {
            Next::End => return,
            Next::Again => tokio::task::yield_now().await,
            Next::Settle => {
                runtime.clock.sleep(STALL_SETTLE).await;
                settled = true;
            }
            Next::At(deadline) => {
                settled = false;
                tokio::select! {
                    biased;
                    () = slot.earlier.notified() => {}
                    () = runtime.clock.sleep_until(deadline) => {}
                }
            }
        }
    }
}

/// Handles what is due, once.
fn turn(runtime: &Arc<Runtime>, shard: u32, settled: bool) -> Next {
    let slot = runtime.slot(shard);
    let mut state = slot.state.lock();
    let open = match &mut state.phase {
        Phase::Open(open) => open,
        Phase::Taking { .. } => return Next::At(Time::NEVER),
        Phase::Closed => return Next::End,
    };
    let deadline = open.shard.next_deadline().unwrap_or(Time::NEVER);
    let now = runtime.clock.now();
    open.armed = deadline;
    if deadline > now {
        return Next::At(deadline);
    }
    if !settled && now.since(deadline) > runtime.config.core.stall {
        return Next::Settle;
    }
    // The answer is nothing: effects leave by themselves, and a failure has its own way.
    drop(slot.step_in(
        runtime,
        &mut state,
        |shard, now, out| shard.expire_due(now, out),
        |_, _| {},
    ));
    Next::Again
}
