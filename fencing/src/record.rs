//! The record of the highest `lowest_valid` that a file or an object saw: one line of fixed length. It knows no I/O.
//!
//! Fixed length, so that it can be read from the front of an object without its content; text, so that people can read
//! it.

use crate::TOKEN_MAX;

/// How a record begins; the number is the version of the form.
const MARK: &[u8] = b"ticketlock-fence 1 ";

/// As many as `TOKEN_MAX` has.
const DIGITS: usize = 16;

/// Bytes of a record.
pub(crate) const LENGTH: usize = MARK.len() + DIGITS + 1;

/// The record's bytes, [`LENGTH`] of them.
pub(crate) fn encode(seen: u64) -> Vec<u8> {
    debug_assert!(seen <= TOKEN_MAX, "{seen}");
    let mut record = Vec::with_capacity(LENGTH);
    record.extend_from_slice(MARK);
    record.extend_from_slice(format!("{seen:0DIGITS$}\n").as_bytes());
    record
}

/// The number, and what follows the record; `None` unless the bytes begin with a record.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = bytes.strip_prefix(MARK)?.split_at_checked(DIGITS)?;
    let content = rest.strip_prefix(b"\n")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seen = str::from_utf8(digits).ok()?.parse().ok()?;
    (seen <= TOKEN_MAX).then_some((seen, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is written is read, and nothing else is taken for a record.
    #[test]
    fn records_are_read_as_written() {
        for seen in [0, 1, 41, TOKEN_MAX] {
            let mut bytes = encode(seen);
            assert_eq!(bytes.len(), LENGTH);
            assert_eq!(decode(&bytes), Some((seen, &b""[..])));
            bytes.extend_from_slice(b"content");
            assert_eq!(decode(&bytes), Some((seen, &b"content"[..])));
            bytes.truncate(LENGTH - 1);
            assert_eq!(decode(&bytes), None);
        }
        for other in [
            &b""[..],
            b"plain content, long enough to hold a record",
            b"ticketlock-fence 2 0000000000000001\n",
            b"ticketlock-fence 1 +000000000000001\n",
            b"ticketlock-fence 1 0000000000000001 ",
            b"ticketlock-fence 1 9999999999999999\n",
        ] {
            assert_eq!(decode(other), None, "{}", String::from_utf8_lossy(other));
        }
    }
}
