//! Texts as people and programs write them, and as they should not. Each is tried as everything that a text can be.

use super::Seed;

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = TEXTS
        .iter()
        .map(|(name, text)| (*name, text.as_bytes().to_vec()))
        .collect();
    seeds.push(("key-longest", vec![b'k'; 512]));
    seeds.push(("key-too-long", vec![b'k'; 513]));
    seeds.push(("owner-longest", vec![b'o'; 256]));
    seeds.push(("not-utf8", vec![b'a', 0xff, 0xc3, b'/', 0xed, 0xa0, 0x80]));
    seeds
}

const TEXTS: [(&str, &str); 34] = [
    ("empty", ""),
    ("key", "jobs/nightly"),
    (
        "key-digest",
        "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
    ),
    ("key-unicode", "schloß/\u{1f512}"),
    ("key-newline", "a\nb"),
    ("key-nul", "a\0b"),
    ("key-next-line", "a\u{85}b"),
    ("key-direction", "a\u{202e}b"),
    ("owner", "deploy@build-7"),
    ("page-token", "6a6f62732f6e696768746c79"),
    ("page-token-upper", "6A6F62732F6E696768746C79"),
    ("page-token-odd", "6a6"),
    ("page-token-sign", "+a-b"),
    ("page-token-not-utf8", "ff"),
    ("shards", "32"),
    ("shards-most", "1024"),
    ("shards-odd", "33"),
    ("shards-beyond", "4294967296"),
    ("shards-sign", "+8"),
    ("store-memory", "memory:"),
    ("store-file", "file:/var/lib/ticketlock"),
    ("store-file-colon", "file:a:b"),
    ("store-no-directory", "file:"),
    ("store-later", "redis://127.0.0.1:6379"),
    ("duration", "1m 30s"),
    ("duration-short", "500ms"),
    ("duration-zero", "0s"),
    ("duration-huge", "584942417355years"),
    ("duration-no-unit", "30"),
    ("policy-grace", "grace=10s"),
    ("policy-lease", "lease"),
    ("pair", "job=nightly=1"),
    ("pair-no-name", "=x"),
    ("address", "[::1]:8476"),
];
