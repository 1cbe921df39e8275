//! Writes the corpus: the same files in each run. A seed's name says what it is about.
//!
//! Only the files that it knows are written: what else is in `corpus/` stays.

#[path = "seed/commands.rs"]
mod commands;
#[path = "seed/configuration.rs"]
mod configuration;
#[path = "seed/records.rs"]
mod records;
#[path = "seed/requests.rs"]
mod requests;
#[path = "seed/story.rs"]
mod story;

use std::fs;
use std::io;
use std::path::Path;

/// A file's name, and what is in it.
type Seed = (&'static str, Vec<u8>);

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, seeds) in [
        ("records", records::seeds()),
        ("requests", requests::seeds()),
        ("configuration", configuration::seeds()),
        ("commands", commands::seeds()),
    ] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
