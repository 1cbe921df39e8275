//! An OCI image, made here: layers of compressed archives, a configuration, a manifest, an index, each called after its
//! digest.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use ticketlock_content::Digest;

/// Numbers from a seed that is printed (SplitMix64, Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    /// A new seed, or the one that `TICKETLOCK_TEST_SEED` says.
    pub fn new(what: &str) -> Self {
        let told = std::env::var("TICKETLOCK_TEST_SEED")
            .ok()
            .map(|seed| seed.parse().expect("a number"));
        let seed = told.unwrap_or_else(|| {
            let bytes = Digest::of(format!("{:?}", std::time::SystemTime::now()).as_bytes()).hex();
            u64::from_str_radix(&bytes[..16], 16).expect("digits")
        });
        let line = format!("{what}: TICKETLOCK_TEST_SEED={seed}\n");
        std::io::stderr().write_all(line.as_bytes()).expect("said");
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.draw().to_le_bytes());
        words.take(count.div_ceil(8)).flatten().take(count).collect()
    }
}

/// Writes an image layout with so many layers; their digests, in order.
pub fn write_image(layout: &Path, layers: usize, random: &mut Random) -> Vec<Digest> {
    fs::create_dir_all(layout.join("blobs/sha256")).expect("a folder");
    let layers: Vec<Vec<u8>> = (0..layers).map(|number| layer(number, random)).collect();
    let descriptors: Vec<Value> = layers
        .iter()
        .map(|layer| blob(layout, "application/vnd.oci.image.layer.v1.tar+gzip", layer))
        .collect();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
    let config = blob(
        layout,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": descriptors,
    });
    let manifest = blob(
        layout,
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).expect("written");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    layers.iter().map(|layer| Digest::of(layer)).collect()
}

/// Stores a blob; its descriptor.
fn blob(layout: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).expect("written");
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

/// A compressed archive of a few files.
fn layer(number: usize, random: &mut Random) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for file in 0..3 {
        let length = 20_000 + usize::try_from(random.below(40_000)).expect("small");
        let bytes = random.bytes(length);
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let path = format!("layer-{number}/file-{file}");
        archive
            .append_data(&mut header, path, bytes.as_slice())
            .expect("appended");
    }
    archive.into_inner().and_then(GzEncoder::finish).expect("an archive")
}
