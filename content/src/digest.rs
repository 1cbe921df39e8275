//! What content is called after: its SHA-256, spelled as OCI does. Knows no file.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// The algorithm, before the colon.
const ALGORITHM: &str = "sha256";

/// A SHA-256, spelled `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("digest: {text:?}, expected sha256: and 64 lower-case hexadecimal digits")]
pub struct DigestError {
    /// The text.
    text: String,
}

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digits alone.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        parse(text).ok_or_else(|| DigestError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix(ALGORITHM)?.strip_prefix(':')?;
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(Digest(bytes))
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

/// Content as it passes by: how long it is, and its digest so far.
#[derive(Clone, Default)]
pub(crate) struct Hashing {
    state: Sha256,
    /// How long it is, in bytes.
    pub length: u64,
}

impl Hashing {
    pub(crate) fn update(&mut self, chunk: &[u8]) {
        self.state.update(chunk);
        self.length += chunk.len() as u64;
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest(self.state.clone().finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a digest is spelled one way, the one that OCI defines.
    #[test]
    fn digests_are_spelled_one_way() {
        let spelled = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), spelled, "the test vector of FIPS 180");
        assert_eq!(spelled.parse(), Ok(Digest::of(b"abc")));
        let mut hashing = Hashing::default();
        hashing.update(b"a");
        hashing.update(b"bc");
        assert_eq!((hashing.digest(), hashing.length), (Digest::of(b"abc"), 3));
        for wrong in [
            "",
            "sha256:",
            "sha512:00",
            &spelled.to_uppercase(),
            &spelled[..70],
            &format!("{spelled}0"),
        ] {
            let error = wrong.parse::<Digest>().expect_err("no digest");
            assert!(error.to_string().contains("expected sha256:"), "{error}");
        }
    }
}
