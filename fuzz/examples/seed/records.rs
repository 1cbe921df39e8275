//! Records as `src/store/file/format.rs` writes them, and some that it must refuse. Written by hand, field by field, so
//! that a change of the format does not change its seeds.

use super::Seed;

/// A Protocol Buffers message in the making.
#[derive(Clone, Default)]
struct Wire(Vec<u8>);

impl Wire {
    fn number(mut self, tag: u64, value: u64) -> Self {
        self.varint(tag << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, tag: u64, value: impl AsRef<[u8]>) -> Self {
        self.varint(tag << 3 | 2);
        self.varint(value.as_ref().len() as u64);
        self.0.extend_from_slice(value.as_ref());
        self
    }

    fn message(self, tag: u64, value: Self) -> Self {
        self.bytes(tag, value.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

const SECOND: u64 = 1_000_000_000;
const TOKEN: u64 = 1 << 50;

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = tickets();
    seeds.extend(ends());
    seeds.extend(outcomes());
    seeds.extend(unreadable());
    seeds
}

fn tickets() -> Vec<Seed> {
    let text = |name: &str, value: &str| Wire::default().bytes(1, name).bytes(2, value);
    let held = || hold(TOKEN + 1);
    vec![
        ("ticket-waits", ticket(terms()).0),
        ("ticket-holds", ticket(terms()).message(5, held()).0),
        ("ticket-unacked", ticket(terms()).message(5, held().number(2, 1)).0),
        (
            "ticket-previous-outcome",
            ticket(terms()).message(5, held().message(3, outcome(1, "all done"))).0,
        ),
        ("ticket-shared", ticket(terms().number(4, 1)).0),
        (
            "ticket-permits",
            ticket(terms().number(4, 2).number(5, 3).number(6, 1_000_000)).0,
        ),
        ("ticket-grace", ticket(terms().number(8, 1).number(9, 10 * SECOND)).0),
        ("ticket-lease", ticket(terms().number(8, 2)).message(5, held()).0),
        ("ticket-try", ticket(terms().number(7, 0)).0),
        (
            "ticket-all-times",
            ticket(terms().number(7, u64::MAX).number(11, 60 * SECOND).number(12, SECOND)).0,
        ),
        (
            "ticket-metadata",
            ticket(terms().message(13, text("job", "1")).message(13, text("host", "ä"))).0,
        ),
        ("ticket-no-request-id", ticket(named("jobs/nightly", "x")).0),
        ("ticket-long-key", ticket(named(&"k".repeat(512), "x")).0),
        (
            "ticket-reentered",
            ticket(terms().number(10, 1))
                .message(4, claim(2).message(1, named("jobs/nightly", "x").number(10, 1)))
                .message(5, held())
                .0,
        ),
        (
            "ticket-claim-says-own-terms",
            ticket(terms()).message(4, claim(2).message(1, terms())).0,
        ),
    ]
}

fn ends() -> Vec<Seed> {
    let token = |reason: u64| end(reason).number(4, TOKEN);
    vec![
        ("end-expired", token(1).0),
        ("end-disconnected", token(2).0),
        (
            "end-revoked",
            token(3).bytes(6, "operator").bytes(7, "stuck since noon").0,
        ),
        ("end-max-hold", token(4).0),
        ("end-not-acked", token(5).0),
        ("end-wait-timeout", end(12).0),
        ("end-cancelled", end(13).0),
        ("end-not-held", end(14).0),
        ("end-wait-disconnected", end(15).0),
    ]
}

fn outcomes() -> Vec<Seed> {
    let pending = |outcome: Wire| Wire::default().message(1, outcome).number(2, TOKEN).0;
    vec![
        ("pending-success", pending(outcome(1, "42 rows"))),
        ("pending-failure", pending(outcome(2, ""))),
        ("pending-lost", pending(outcome(3, ""))),
        ("pending-nothing", Vec::new()),
    ]
}

/// What no version wrote, or a later one.
fn unreadable() -> Vec<Seed> {
    let mut cut = ticket(terms()).message(5, hold(TOKEN)).0;
    cut.truncate(cut.len() / 2);
    vec![
        ("bad-cut", cut),
        ("bad-mode", ticket(terms().number(4, 3)).0),
        ("bad-permits", ticket(terms().number(4, 2).number(5, 4).number(6, 3)).0),
        ("bad-reason", end(6).0),
        ("bad-outcome", Wire::default().message(1, outcome(4, "")).0),
        ("bad-request-id", ticket(terms().bytes(3, [7; 15])).0),
        (
            "bad-key",
            ticket(Wire::default().bytes(1, [0xff, 0xfe]).bytes(2, "x")).0,
        ),
        ("later-field", ticket(terms().bytes(99, "later")).number(77, 1).0),
    ]
}

fn named(key: &str, owner: &str) -> Wire {
    Wire::default().bytes(1, key).bytes(2, owner)
}

fn terms() -> Wire {
    named("jobs/nightly", "x@host").bytes(3, [7; 16])
}

/// With one claim, as all have that were not re-entered.
fn ticket(terms: Wire) -> Wire {
    let ticket = Wire::default().number(1, TOKEN).message(2, terms);
    ticket.number(3, 30 * SECOND).message(4, claim(1))
}

fn claim(attach_number: u64) -> Wire {
    Wire::default().number(2, attach_number).number(3, 30 * SECOND)
}

fn hold(token: u64) -> Wire {
    Wire::default().number(1, token)
}

fn end(reason: u64) -> Wire {
    terms().number(5, reason)
}

fn outcome(status: u64, note: &str) -> Wire {
    Wire::default().number(1, status).bytes(2, note)
}
