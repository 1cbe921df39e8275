//! `hand_offs WAITERS ROUNDS`: so many hand-offs in a line of so many waiters, and nothing else. For counting
//! instructions from outside: two runs that differ in ROUNDS alone differ by the cost of the hand-offs.

mod load;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use load::Load;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo's own arguments begin with a dash.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let (Some(waiters), Some(rounds)) = (arguments.next(), arguments.next()) else {
        return Ok(());
    };
    let (waiters, rounds): (u32, u32) = (waiters.parse()?, rounds.parse()?);
    let key: Arc<str> = Arc::from("images/hot");
    let mut load = Load::line(&key, waiters);
    // Tables and caches have their final state.
    for _ in 0..1_000 {
        load.hand_off(&key);
    }
    let began = Instant::now();
    for _ in 0..rounds {
        load.hand_off(&key);
    }
    let nanos = began.elapsed().as_nanos() / u128::from(rounds.max(1));
    writeln!(std::io::stdout(), "{nanos}")?;
    Ok(())
}
