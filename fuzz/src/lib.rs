//! What the fuzz targets run: one function per target, which panics where the target's invariant is broken.
//!
//! It knows nothing of libFuzzer: `tests/replay.rs` runs the same functions over the corpus on a stable compiler. What a
//! fuzzer finds goes to a folder of its own; what is worth keeping becomes a seed in `examples/seed/`:
//!
//! ```sh
//! cargo test                                                       # in fuzz/: the replay
//! cargo run --example seed                                         # in fuzz/: writes corpus/ anew
//! cargo +nightly fuzz run --features libfuzzer commands target/found fuzz/corpus/commands
//! ```

mod commands;
mod configuration;
mod requests;
/// The driver of the core's own random tests, so that both hold a shard to the same properties.
#[path = "../../core/tests/rules/world.rs"]
mod world;

/// Invariant: a record that the file store can decode is encoded to one that decodes to the same.
///
/// # Panics
/// Where it is broken.
pub fn records(bytes: &[u8]) {
    ticketlock::store::file::fuzz_record(bytes);
}

/// Invariant: a request that can be decoded is refused by the name of its field, or is a command within every limit that
/// a shard can carry out.
///
/// # Panics
/// Where it is broken.
pub fn requests(bytes: &[u8]) {
    requests::run(bytes);
}

/// Invariant: text is refused, or means exactly one thing that can be said again.
///
/// # Panics
/// Where it is broken.
pub fn configuration(bytes: &[u8]) {
    configuration::run(&String::from_utf8_lossy(bytes));
}

/// Invariant: whatever valid commands come, and whenever, a shard and its records are sound after each, and empty in the
/// end.
///
/// # Panics
/// Where it is broken.
pub fn commands(bytes: &[u8]) {
    commands::run(bytes);
}
