//! The program behind `main`: reads an OCI image layout, and pulls its layers one after the other.
//!
//! It says one line for each layer: `pulled DIGEST`, or `skipped DIGEST` and why. With `--step` it stops at the start
//! (`ready`) and in the middle of each download (`half DIGEST`) until a line comes on its standard input.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use ticketlock_content::{ClientConfig, Digest, Node};

/// Why the program ends early.
pub type Failure = Box<dyn Error + Send + Sync>;

/// How much is downloaded at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// `index.json` of a layout.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// The manifest of an image.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

/// What names a blob.
#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
}

/// Runs with the program's arguments.
///
/// # Errors
/// Whatever ends it early, in words for a person.
pub async fn run(arguments: &[String]) -> Result<(), Failure> {
    let (server_url, node_id, directory, layout, step) = match arguments {
        [server_url, node_id, directory, layout] => (server_url, node_id, directory, layout, false),
        [server_url, node_id, directory, layout, step] if step == "--step" => {
            (server_url, node_id, directory, layout, true)
        }
        _ => return Err("usage: pull_layers SERVER_URL NODE_ID DIRECTORY LAYOUT [--step]".into()),
    };
    let layout = Path::new(layout);
    let node = Node::builder(ClientConfig::new(server_url, node_id), directory).open()?;
    if step {
        stop("ready").await?;
    }
    let index: Index = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    for image in index.manifests {
        let manifest: Manifest = serde_json::from_slice(&fs::read(blob(layout, &image.digest)?)?)?;
        for layer in manifest.layers {
            pull(&node, layout, &layer, step).await?;
        }
    }
    Ok(())
}

/// Pulls one layer, if nobody else does.
async fn pull(node: &Node, layout: &Path, layer: &Descriptor, step: bool) -> Result<(), Failure> {
    let mut writer = node.pull(&layer.digest).size(layer.size).open().await?;
    if let Some(why) = writer.why_skipped() {
        return say(&format!("skipped {} {why:?}: {why}", layer.digest));
    }
    // A file stands for the registry.
    let mut source = File::open(blob(layout, &layer.digest)?)?;
    let mut chunk = vec![0; CHUNK];
    let mut stopped = !step;
    loop {
        let read = source.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|it| !it.is_empty()) else {
            break;
        };
        writer.write(bytes)?;
        if !stopped && writer.progress().written * 2 >= layer.size {
            stopped = true;
            stop(&format!("half {}", layer.digest)).await?;
        }
    }
    writer.commit().await?;
    say(&format!("pulled {}", layer.digest))?;
    writer.close().await?;
    Ok(())
}

/// The file of a blob. A digest that is none names no file.
fn blob(layout: &Path, digest: &str) -> Result<PathBuf, Failure> {
    let digest: Digest = digest.parse()?;
    Ok(layout.join("blobs").join("sha256").join(digest.hex()))
}

/// Says a word, and waits for a line.
async fn stop(word: &str) -> Result<(), Failure> {
    say(word)?;
    let read = || std::io::stdin().read_line(&mut String::new());
    match tokio::task::spawn_blocking(read).await?? {
        0 => Err("standard input has ended".into()),
        _ => Ok(()),
    }
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
