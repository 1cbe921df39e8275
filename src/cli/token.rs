//! The commands that name a hold by its token: renew, unlock, force-unlock.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde_json::json;
use ticketlock_client::{ForceUnlockResult, Outcome, RenewResult, UnlockResult};

use super::args::{ForceUnlock, Format, Renew, Unlock};
use super::{connect, exit};

/// `ticketlock renew`.
pub async fn renew(args: Renew) -> anyhow::Result<ExitCode> {
    let client = connect(&args.connection).await?;
    let (result, words, code, ttl_ms) = match client.renew(&args.key, args.token, args.ttl).await? {
        RenewResult::Renewed { ttl } => {
            let words = format!("renewed for {}", humantime::format_duration(ttl));
            ("RENEWED", words, 0, u64::try_from(ttl.as_millis())?)
        }
        RenewResult::NotHeld => (
            "NOT_HELD",
            "not held under this token by this owner".to_owned(),
            exit::LOST,
            0,
        ),
        RenewResult::InvalidTtl => ("INVALID_TTL", "the TTL is out of its range".to_owned(), 1, 0),
        _ => ("UNKNOWN", "an answer that this release does not know".to_owned(), 1, 0),
    };
    let object = json!({ "key": args.key, "fencing_token": args.token, "result": result, "ttl_ms": ttl_ms });
    answer(args.output, &args.key, &words, &object, code)
}

/// `ticketlock unlock`.
pub async fn unlock(args: Unlock) -> anyhow::Result<ExitCode> {
    let client = connect(&args.connection).await?;
    let outcome = args.failed.map_or_else(Outcome::success, Outcome::failure);
    let (result, words, code) = match client.unlock_token(&args.key, args.token, outcome).await? {
        UnlockResult::Released { claims_left: 0 } => ("RELEASED", "unlocked".to_owned(), 0),
        UnlockResult::Released { claims_left } => ("RELEASED", format!("{claims_left} claims are left"), 0),
        UnlockResult::AlreadyReleased { ended_by: Some(reason) } => {
            ("ALREADY_RELEASED", format!("not held any more: {reason}"), exit::LOST)
        }
        UnlockResult::AlreadyReleased { ended_by: None } => {
            ("ALREADY_RELEASED", "not held any more".to_owned(), exit::LOST)
        }
        UnlockResult::NotFound => ("NOT_FOUND", "this token was never given".to_owned(), exit::LOST),
        UnlockResult::LockByOther => ("LOCK_BY_OTHER", "another owner holds it".to_owned(), exit::LOST),
        UnlockResult::Cancelled => ("CANCELLED", "left the line".to_owned(), 0),
        _ => ("UNKNOWN", "an answer that this release does not know".to_owned(), 1),
    };
    let object = json!({ "key": args.key, "fencing_token": args.token, "result": result });
    answer(args.output, &args.key, &words, &object, code)
}

/// `ticketlock force-unlock`.
pub async fn force_unlock(args: ForceUnlock) -> anyhow::Result<ExitCode> {
    let client = connect(&args.connection).await?;
    if !args.yes && std::io::stdin().is_terminal() {
        let info = client.get(&args.key).await?;
        let holder = info.holders.iter().find(|it| it.fencing_token == args.token);
        let whose = holder.map_or_else(|| "nobody under this token".to_owned(), |it| it.owner.clone());
        let mut stderr = std::io::stderr().lock();
        write!(stderr, "Take {} from {whose}? [y/N] ", args.key)?;
        stderr.flush()?;
        let mut reply = String::new();
        std::io::stdin().read_line(&mut reply)?;
        if !matches!(reply.trim(), "y" | "Y" | "yes") {
            return Ok(ExitCode::FAILURE);
        }
    }
    let by = client.owner().to_owned();
    let (result, words, owner, code) = match client.force_unlock(&args.key, args.token, &args.reason, &by).await? {
        ForceUnlockResult::Revoked { owner } => ("REVOKED", format!("taken from {owner}"), Some(owner), 0),
        ForceUnlockResult::AlreadyReleased => (
            "ALREADY_RELEASED",
            "this token holds no more; nothing was changed".to_owned(),
            None,
            exit::NOT_ACQUIRED,
        ),
        ForceUnlockResult::NotFound => (
            "NOT_FOUND",
            "this token was never given; nothing was changed".to_owned(),
            None,
            exit::NOT_ACQUIRED,
        ),
        _ => (
            "UNKNOWN",
            "an answer that this release does not know".to_owned(),
            None,
            1,
        ),
    };
    let object = json!({ "key": args.key, "fencing_token": args.token, "result": result, "owner": owner });
    answer(args.output, &args.key, &words, &object, code)
}

fn answer(format: Format, key: &str, words: &str, object: &serde_json::Value, code: u8) -> anyhow::Result<ExitCode> {
    match format {
        Format::Json => writeln!(std::io::stdout().lock(), "{object}")?,
        Format::Table if code == 0 => writeln!(std::io::stdout().lock(), "{key}: {words}")?,
        Format::Table => writeln!(std::io::stderr().lock(), "ticketlock: {key}: {words}")?,
    }
    Ok(ExitCode::from(code))
}
