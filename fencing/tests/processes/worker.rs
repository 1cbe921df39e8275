//! A client that does all that a client can do: it takes the lock, reads, makes sure that it holds the lock, and
//! writes.

use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use ticketlock_client::{Client, OnDisconnect, Outcome};
use ticketlock_fencing::{Error, Fence};

use crate::counter::Counter;

/// The key that guards the counter.
pub const KEY: &str = "counter";

/// Short, so that a pause can outlast it.
const TTL: Duration = Duration::from_millis(500);

/// Adds `amount` to the counter. Arguments: the server, the amount, the counter's.
///
/// It says `holds TOKEN` once it has read and is sure of its lock, waits for a line, writes, and says `written`. A
/// pause can come before any instruction: waiting for a line lets the story choose the one after the check. Refused, it
/// says `stale SEEN GIVEN`, and begins again.
pub async fn work(mut arguments: impl Iterator<Item = String>) {
    let endpoint = arguments.next().expect("the server");
    let amount: i64 = arguments
        .next()
        .and_then(|amount| amount.parse().ok())
        .expect("an amount");
    let counter = Counter::from_arguments(arguments);
    let client = Client::connect(endpoint).await.expect("connected");
    loop {
        let lock = client.lock(KEY).ttl(TTL).on_disconnect(OnDisconnect::Lease);
        let guard = lock.await.expect("granted");
        let fence = Fence::try_from(&guard).expect("the numbers of a grant");
        let count = counter.read(fence).await.expect("nobody is newer");
        // Not sure of its lock, as on a machine that is slow just now, it does not write: that would show nothing.
        if guard.confirmed().await.is_err() || !guard.is_held() {
            continue;
        }
        say(&format!("holds {}", fence.token()));
        // Blocks this thread, so that nothing of the client's comes between the line and the write.
        std::io::stdin().lock().read_line(&mut String::new()).expect("a line");
        match counter.write(fence, count + amount).await {
            Ok(()) => {
                say("written");
                // Whether the lock is held still does not matter any more.
                let _ = guard.unlock(Outcome::success()).await;
                return;
            }
            Err(Error::Stale { seen, given }) => say(&format!("stale {seen} {given}")),
            Err(error) => panic!("{error}"),
        }
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .expect("somebody listens");
}
