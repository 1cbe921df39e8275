//! Stories in text: `scripts/*.txt` say what clients do and, indented below, what the machine answers and pushes.
//!
//! A line is a command; `#` begins a comment; a blank line ends a story, and the next begins with a fresh shard.
//! `UPDATE_SCRIPTS=1` writes what the machine says into the files: read the difference before you keep it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ticketlock_core::command::{Command, LockRequest, Renew, Reply, TryReply, Unlock};
use ticketlock_core::output::{Event, Obstacle};
use ticketlock_core::shard::Reattach;
use ticketlock_core::types::{
    DetachCause, EventOptions, Mode, OnDisconnect, Outcome, OutcomeStatus, SameOwner, Stream, StreamKind, Terms,
};
use ticketlock_core::{Config, Output};

use crate::world::{Push, World, request, request_id};

/// Every script says what the machine does.
#[test]
fn scripts_say_what_the_machine_does() {
    crate::plant();
    let mut differing = Vec::new();
    for path in scripts() {
        let text = std::fs::read_to_string(&path).unwrap();
        let played = play(&text);
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            std::fs::write(&path, &played).unwrap();
        } else if played != text {
            let line = played.lines().zip(text.lines()).position(|(got, said)| got != said);
            let at = line.unwrap_or_else(|| played.lines().count().min(text.lines().count()));
            let [got, said] = [&played, &text].map(|text| text.lines().nth(at).unwrap_or("(the end)").to_owned());
            differing.push(format!("{}:{}\n  says  {said}\n  plays {got}", path.display(), at + 1));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// Every rule of the book has its script, so that a new rule cannot be forgotten.
#[test]
fn every_rule_has_a_script() {
    let names: Vec<String> = scripts()
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    for rule in [
        "q1", "q2", "q3", "q4", "q5", "g1", "g2", "g3", "g4", "g5", "t1", "t2", "t3", "t4", "t5", "i1", "i2",
    ] {
        assert!(names.iter().any(|name| name.starts_with(rule)), "no script for {rule}");
    }
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules/scripts");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    paths.sort();
    paths
}

/// The text again, with what the machine says now.
fn play(text: &str) -> String {
    let mut played = String::new();
    let mut stage = Stage::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        played.push_str(line);
        played.push('\n');
        if line.is_empty() {
            stage = Stage::new();
        } else if !line.starts_with('#') {
            for said in stage.run(line) {
                writeln!(played, "  {said}").unwrap();
            }
        }
    }
    played
}

/// One story's world, with names for its streams.
struct Stage {
    world: World,
    streams: BTreeMap<String, Stream>,
    names: BTreeMap<u64, String>,
    requests: BTreeMap<String, LockRequest>,
}

/// The words after a command: `name` or `name=value`.
struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Words<'a> {
    fn parse(words: impl Iterator<Item = &'a str>) -> Self {
        Self(words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn text(&self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).copied().unwrap_or(default)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).map(|value| value.parse().unwrap())
    }

    fn duration(&self, name: &str) -> Option<Duration> {
        self.0.get(name).map(|value| duration(value))
    }
}

fn duration(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(millis.parse().unwrap()),
        None => Duration::from_secs(text.trim_end_matches('s').parse().unwrap()),
    }
}

impl Stage {
    fn new() -> Self {
        Self {
            world: World::new(Config {
                waiters_max: 4,
                claims_max: 2,
                ..Config::default()
            }),
            streams: BTreeMap::new(),
            names: BTreeMap::new(),
            requests: BTreeMap::new(),
        }
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap();
        let name = words.clone().next().unwrap_or_default();
        let options = Words::parse(words);
        let key: Arc<str> = Arc::from(options.text("key", "k"));
        let owner: Arc<str> = Arc::from(options.text("owner", "x"));
        let command = match verb {
            "lock" => self.lock(name, &options),
            "try" => {
                let mut request = asked(name, &options);
                Arc::make_mut(&mut request.terms).on_disconnect = OnDisconnect::Lease;
                Command::TryLock(Box::new(request))
            }
            "unlock" => Command::Unlock(Unlock {
                key,
                owner: Arc::from(name),
                token: options.number("token"),
                request_id: options.number("id").map(|id| request_id(id as u8)),
                outcome: outcome(&options),
            }),
            "renew" | "ack" | "beat" => {
                let renew = Renew {
                    key,
                    owner: Arc::from(name),
                    token: options.number("token").unwrap(),
                    ttl: options.duration("ttl"),
                };
                if verb == "beat" {
                    Command::Refresh(renew)
                } else {
                    Command::Renew(renew)
                }
            }
            "close" => self.detach(name, DetachCause::Ended),
            "cut" => self.detach(name, DetachCause::Silent),
            "force" => Command::ForceUnlock {
                key,
                token: options.number("token").unwrap(),
                by: Arc::from("op"),
                message: owner,
            },
            _ => return self.run_other(verb, name, &key),
        };
        let (reply, pushes) = self.world.apply(command);
        let mut said: Vec<String> = reply_text(reply).into_iter().collect();
        said.extend(self.pushes(pushes));
        said
    }

    fn run_other(&mut self, verb: &str, argument: &str, key: &str) -> Vec<String> {
        match verb {
            "wait" => {
                let began = self.world.now;
                let mut turns = Vec::new();
                self.world.advance(duration(argument), |now, pushes, _| {
                    turns.push((now.since(began), pushes))
                });
                let mut said = Vec::new();
                for (after, pushes) in turns {
                    said.extend(self.pushes(pushes).into_iter().map(|push| format!("+{after:?} {push}")));
                }
                said
            }
            "stall" => {
                let pushes = self.world.stall(duration(argument));
                self.pushes(pushes)
            }
            "restart" => {
                self.world.restart();
                Vec::new()
            }
            "reattach" => self.reattach(argument),
            "show" => self.show(key),
            _ => panic!("no such command: {verb}"),
        }
    }

    fn lock(&mut self, name: &str, options: &Words<'_>) -> Command {
        let kind = if options.has("session") {
            StreamKind::Session
        } else {
            StreamKind::Plain
        };
        let stream = self.world.stream(kind);
        self.streams.insert(name.to_owned(), stream);
        self.names.insert(stream.id.0, name.to_owned());
        let request = LockRequest {
            stream: Some(stream),
            ..asked(name, options)
        };
        self.requests.insert(name.to_owned(), request.clone());
        Command::Lock(Box::new(request))
    }

    fn detach(&mut self, name: &str, cause: DetachCause) -> Command {
        let stream = self.streams[name].id;
        let (key, ticket) = self.world.streams.remove(&stream.0).unwrap();
        Command::Detach {
            key,
            ticket,
            stream,
            cause,
        }
    }

    /// A live stream of a process that took its shard anew.
    fn reattach(&mut self, name: &str) -> Vec<String> {
        let request = &self.requests[name];
        let records = &self.world.records.tickets;
        let named = records.iter().find(|record| {
            record
                .claims
                .iter()
                .any(|claim| claim.terms.request_id == request.terms.request_id)
        });
        let reattach = Reattach {
            ticket: named.unwrap().ticket,
            request_id: request.terms.request_id,
            stream: self.streams[name],
            events: request.events,
        };
        let mut out = Output::default();
        let found = self.world.shard.reattach(reattach, self.world.now, &mut out);
        let pushes = self.world.settle(out);
        let mut said = vec![format!("-> {}", if found { "there" } else { "not there" })];
        said.extend(self.pushes(pushes));
        said
    }

    fn pushes(&self, pushes: Vec<Push>) -> Vec<String> {
        let text = |(stream, event): Push| format!("{}: {}", self.names[&stream], event_text(event));
        pushes.into_iter().map(text).collect()
    }

    fn show(&self, key: &str) -> Vec<String> {
        let view = self.world.shard.get(key, 10, self.world.now);
        let mut said = Vec::new();
        for holder in view.holders {
            let away = if holder.connected { "" } else { " away" };
            said.push(format!(
                "holds {} token={} left={:?}{away}",
                holder.terms.owner, holder.token, holder.lease_left
            ));
        }
        for waiter in view.waiters {
            let away = if waiter.connected { "" } else { " away" };
            said.push(format!(
                "waits {} position={}{away}",
                waiter.terms.owner, waiter.position
            ));
        }
        said.extend(view.lock_delay_left.map(|left| format!("delay left={left:?}")));
        said.extend(
            view.pending_outcome
                .map(|outcome| format!("outcome {:?}", outcome.status)),
        );
        if self.world.shard.totals().keys == 0 {
            said.push("nothing".to_owned());
        }
        said
    }
}

fn outcome(options: &Words<'_>) -> Outcome {
    let status = match options.text("outcome", "") {
        "success" => OutcomeStatus::Success,
        "failure" => OutcomeStatus::Failure,
        _ => OutcomeStatus::Unspecified,
    };
    Outcome {
        status,
        note: options.text("note", "").to_owned(),
    }
}

fn asked(name: &str, options: &Words<'_>) -> LockRequest {
    let number = |name| options.number(name).map(|number| number as u32);
    let mode = match (options.has("shared"), number("permits")) {
        (true, _) => Mode::Shared,
        (_, Some(permits)) => Mode::Permits {
            permits,
            capacity: number("of").unwrap(),
        },
        _ => Mode::Exclusive,
    };
    let on_disconnect = match options.text("on", "release") {
        "release" => OnDisconnect::Release,
        "lease" => OnDisconnect::Lease,
        grace => OnDisconnect::Grace(duration(grace)),
    };
    let same_owner = match (options.has("reenter"), options.has("refuse")) {
        (true, _) => SameOwner::Reenter,
        (_, true) => SameOwner::Refuse,
        _ => SameOwner::Wait,
    };
    let events = options.has("events");
    let terms = Terms {
        request_id: options.number("id").map(|id| request_id(id as u8)),
        mode,
        on_disconnect,
        same_owner,
        wait_timeout: options.duration("wait"),
        lock_delay: options.duration("delay").unwrap_or_default(),
        max_hold: options.duration("max"),
        ..Terms::exclusive(
            options.text("key", "k"),
            options.text("owner", name.trim_end_matches(char::is_numeric)),
        )
    };
    LockRequest {
        attach_number: options.number("attach").unwrap_or_default(),
        attach_only: options.has("only"),
        ttl: options.duration("ttl").unwrap_or(Duration::from_secs(30)),
        events: EventOptions {
            queue_updates: events,
            contended: events,
            expiring: events,
        },
        ..request(terms)
    }
}

fn reply_text(reply: Reply) -> Option<String> {
    Some(match reply {
        Reply::Lock(Ok(_)) | Reply::Done => return None,
        Reply::TryLock(Ok(TryReply::Granted(granted))) => format!("-> {}", event_text(Event::Granted(granted))),
        Reply::TryLock(Ok(TryReply::Refused { reason, obstacle })) => {
            format!("-> refused {reason:?}{}", obstacle_text(obstacle))
        }
        Reply::Lock(Err(refusal)) | Reply::TryLock(Err(refusal)) | Reply::Unlock(Err(refusal)) => {
            format!("-> error {refusal:?}")
        }
        Reply::Unlock(Ok(reply)) => format!("-> {reply:?}"),
        Reply::Renew(Some(left)) => format!("-> renewed {left:?}"),
        Reply::Renew(None) => "-> not held".to_owned(),
        Reply::ForceUnlock(reply) => format!("-> {reply:?}"),
    })
}

fn obstacle_text(obstacle: Option<Obstacle>) -> String {
    match obstacle {
        Some(Obstacle::Holder(holder)) => format!(" behind holder {} token={}", holder.terms.owner, holder.token),
        Some(Obstacle::Waiter(waiter)) => format!(" behind waiter {}", waiter.terms.owner),
        Some(Obstacle::LockDelay { left }) => format!(" behind a lock-delay of {left:?}"),
        None => String::new(),
    }
}

fn event_text(event: Event) -> String {
    match event {
        Event::Queued(queued) => {
            let eta = queued.eta.map(|eta| format!(" eta={eta:?}")).unwrap_or_default();
            format!(
                "queued position={} holders={} {:?}{eta}",
                queued.position, queued.holders, queued.reason
            )
        }
        Event::Granted(granted) => {
            let mut text = format!("granted token={} ttl={:?}", granted.token, granted.ttl);
            let mut note = |shown: bool, note: String| {
                if shown {
                    text.push(' ');
                    text.push_str(&note);
                }
            };
            note(
                granted.lowest_valid != granted.token,
                format!("lowest={}", granted.lowest_valid),
            );
            note(granted.claims != 1, format!("claims={}", granted.claims));
            note(!granted.waited.is_zero(), format!("waited={:?}", granted.waited));
            let Outcome { status, note: said } = granted.previous_outcome;
            note(status != OutcomeStatus::Unspecified, format!("after={status:?}"));
            note(!said.is_empty(), format!("note={said}"));
            let left = granted.max_hold_left;
            note(left.is_some(), format!("max={:?}", left.unwrap_or_default()));
            text
        }
        Event::Contended { waiters } => format!("contended waiters={waiters}"),
        Event::Expiring { left } => format!("expiring left={left:?}"),
        Event::Lost { token, reason } => format!("lost token={token} {reason:?}"),
        Event::Refused { reason, obstacle } => format!("refused {reason:?}{}", obstacle_text(obstacle)),
        Event::Unlocked => "unlocked".to_owned(),
        Event::Superseded => "superseded".to_owned(),
    }
}
