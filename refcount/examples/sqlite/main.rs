//! Reference counts in a database: `cargo run -p ticketlock-refcount --example sqlite -- FILE NODE RESOURCE` has a node
//! refer to a resource, and says who does. Run it several times, with several nodes.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;

use storage::SqliteStorage;
use ticketlock_refcount::{Ended, Operation, RefCountManager};

mod storage;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, node, resource] = arguments.as_slice() else {
        return Err("usage: sqlite FILE NODE RESOURCE".into());
    };
    let counts = RefCountManager::new(SqliteStorage::open(Path::new(file))?);
    let mut out = std::io::stdout().lock();
    match counts.should_skip_operation(Operation::Pull, resource)? {
        Some(reason) => writeln!(out, "no need to pull {resource}: {reason}")?,
        None => writeln!(out, "nobody has {resource} yet: pull it, under its lock")?,
    }
    let count = counts.update_ref_count(Operation::Pull, resource, node, Ended::Success)?;
    let nodes: Vec<&str> = count.nodes().collect();
    writeln!(out, "{} refer to {resource}: {}", count.count(), nodes.join(", "))?;
    Ok(())
}
