//! Names that stand for a resource: the key of its lock, and the name of its files. Both are injective, so that two
//! resources never share a lock or a file.

use std::fmt::Write as _;

use crate::refcount::RESOURCE_ID_BYTES_MAX;
use crate::{Digest, Error};

/// Bound: the length of a kind, in bytes; the least is 1.
pub const KIND_BYTES_MAX: usize = 64;
/// The longest key that a lock server takes, in bytes.
const KEY_BYTES_MAX: usize = 512;
/// The longest file name, in bytes, less what goes around it (a letter, a dash, a dot, a token).
const NAME_BYTES_MAX: usize = 200;

/// The key of a resource's lock: `KIND/RESOURCE`, where `%`, `#`, control characters, and in the kind `/`, are written
/// as `%` and two digits. What would exceed 512 bytes is `KIND/#` and the SHA-256 of the resource id.
///
/// The kind is that of the resource, such as `layer`, and not the operation: a pull, an update and a delete of one
/// resource must keep each other out.
///
/// # Errors
/// [`Error::Argument`] unless the kind has 1 to 64 bytes and the resource id 1 to 4096.
pub fn lock_key(kind: &str, resource_id: &str) -> Result<String, Error> {
    check("kind", kind, KIND_BYTES_MAX)?;
    check("resource_id", resource_id, RESOURCE_ID_BYTES_MAX)?;
    let special = |letter: char| matches!(letter, '%' | '#') || letter.is_control();
    let kind = escaped(kind, |letter| letter == '/' || special(letter));
    let key = format!("{kind}/{}", escaped(resource_id, special));
    if key.len() <= KEY_BYTES_MAX {
        return Ok(key);
    }
    // An escaped id has no `#`, so a hash is never taken for one.
    Ok(format!("{kind}/#{}", Digest::of(resource_id.as_bytes()).hex()))
}

/// The name of a resource's files: `n-` and the id, all but lower-case letters, digits, `-` and `_` escaped (so that it
/// is as good where upper and lower case are one), or `h-` and the id's SHA-256 where that is too long.
pub(crate) fn file_name(resource_id: &str) -> String {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '_');
    let name = escaped(resource_id, |letter| !plain(letter));
    if name.len() <= NAME_BYTES_MAX {
        format!("n-{name}")
    } else {
        format!("h-{}", Digest::of(resource_id.as_bytes()).hex())
    }
}

fn check(field: &'static str, name: &str, limit: usize) -> Result<(), Error> {
    let length = name.len();
    if (1..=limit).contains(&length) {
        return Ok(());
    }
    Err(Error::argument(
        field,
        format!("{length} bytes"),
        format!("1 to {limit}"),
    ))
}

/// The text, with the bytes of special characters as `%` and two digits. `%` itself has to be special.
fn escaped(text: &str, special: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if special(letter) {
            for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string never fails.
                let _ = write!(escaped, "%{byte:02x}");
            }
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Texts that an encoding could confuse.
    fn awkward() -> Vec<String> {
        let mut texts: Vec<String> = [
            "a",
            "A",
            "a/b",
            "a%2fb",
            "a%252fb",
            "a#b",
            "#",
            "#0",
            "%",
            "%25",
            "/",
            "//",
            "a/",
            "/a",
            "\n",
            "%0a",
            "\u{85}",
            "ä",
            ".",
            "..",
            "a.1",
            "n-a",
            "h-a",
            "sha256:00",
        ]
        .map(str::to_owned)
        .into();
        for letter in ["x", "y", "/", "%", "ä"] {
            texts.extend(
                [60, 190, 197, 198, 199, 300, 505, 506, 507, 508, 600, 1300].map(|length| letter.repeat(length)),
            );
        }
        texts.push(format!("#{}", Digest::of("x".repeat(600).as_bytes()).hex()));
        texts
    }

    /// Goal: distinct pairs of kind and resource have distinct keys, each one fit for a server.
    #[test]
    fn keys_are_injective_and_fit() {
        let mut keys = BTreeSet::new();
        let (kinds, ids) = (awkward(), awkward());
        let kinds: Vec<_> = kinds.iter().filter(|kind| kind.len() <= KIND_BYTES_MAX).collect();
        for kind in &kinds {
            for id in &ids {
                let key = lock_key(kind, id).expect("a key");
                assert!(
                    key.len() <= KEY_BYTES_MAX && !key.chars().any(char::is_control),
                    "{key:?}"
                );
                assert!(
                    keys.insert(key.clone()),
                    "{key:?} of ({kind:?}, {id:?}) is another pair's, too"
                );
            }
        }
        assert_eq!(keys.len(), kinds.len() * ids.len());
        assert_eq!(lock_key("layer", "sha256:00").expect("a key"), "layer/sha256:00");
        let error = lock_key("", "a").expect_err("no kind").to_string();
        assert_eq!(error, "kind: 0 bytes, expected 1 to 64");
    }

    /// Goal: distinct resources have distinct files, also where upper and lower case are one, none special, none too long.
    #[test]
    fn file_names_are_injective_and_fit() {
        let mut names = BTreeSet::new();
        for id in awkward() {
            let name = file_name(&id);
            assert!(name.len() <= 255 - 21 && !name.contains(['/', '.', '\0']), "{name:?}");
            assert_eq!(name, name.to_lowercase());
            assert!(names.insert(name.clone()), "{name:?} of {id:?} is another one's, too");
        }
    }
}
