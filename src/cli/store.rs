//! `ticketlock backup`, `restore` and `inspect`: a store as a file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use ticketlock::service::{IdSource, unix_seconds};
use ticketlock::store::file::{self, Offline};

use super::args::{Backup, Format, Inspect, Restore};
use super::connect;

/// Writes under another name first: a file of the right name is a whole backup.
pub async fn backup(args: Backup) -> anyhow::Result<ExitCode> {
    let shown = args.file.display().to_string();
    anyhow::ensure!(
        !args.file.try_exists()?,
        "{shown}: there is a file already; nothing was changed"
    );
    let client = connect(&args.connection).await?;
    let mut parts = client.backup().await?;
    let part = args.file.with_extension("part");
    let open = OpenOptions::new().create(true).truncate(true).write(true).open(&part);
    let mut file: File = open.with_context(|| part.display().to_string())?;
    let mut bytes = 0;
    let written: anyhow::Result<()> = async {
        while let Some(data) = parts.next().await? {
            file.write_all(&data)?;
            bytes += data.len();
        }
        file.sync_all()?;
        Ok(std::fs::rename(&part, &args.file)?)
    }
    .await;
    if let Err(error) = written {
        let _ = std::fs::remove_file(&part);
        return Err(error.context(shown));
    }
    writeln!(std::io::stdout().lock(), "{shown}: {bytes} bytes")?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a store of a backup.
pub fn restore(args: &Restore) -> anyhow::Result<ExitCode> {
    let about = file::restore(&args.file, &args.dir, IdSource::system().draw_id(), unix_seconds())?;
    let dir = args.dir.display();
    writeln!(
        std::io::stdout().lock(),
        "{dir}: {} shards, {} commits; tokens go on above those of the backup. Now: ticketlock serve --store file:{dir}",
        about.shards.get(),
        about.commits
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what is in a store, key by key.
pub fn inspect(args: &Inspect) -> anyhow::Result<ExitCode> {
    let store = Offline::open(&args.dir)?;
    let about = store.about();
    let (mut holders, mut waiters) = (Vec::new(), Vec::new());
    let (mut ends, mut outcomes) = (0, 0);
    for shard in 0..about.shards.get() {
        let (_, records) = store.shard(shard)?;
        for record in records.tickets {
            let ticket = json!({
                "key": &*record.terms.key,
                "owner": &*record.terms.owner,
                "ticket": record.ticket,
                "fencing_token": record.hold.as_ref().map(|hold| hold.token),
            });
            if record.hold.is_some() {
                &mut holders
            } else {
                &mut waiters
            }
            .push(ticket);
        }
        ends += records.ends.len();
        outcomes += records.outcomes.len();
    }
    let id: String = about.store_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut stdout = std::io::stdout().lock();
    if args.output == Format::Json {
        let all = json!({
            "store_id": id, "shards": about.shards.get(), "commits": about.commits,
            "highest_number": store.highest_mark()?,
            "holders": holders, "waiters": waiters, "remembered_ends": ends, "pending_outcomes": outcomes,
        });
        writeln!(stdout, "{all}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        stdout,
        "intact: store {id}, {} shards, {} commits",
        about.shards.get(),
        about.commits
    )?;
    writeln!(
        stdout,
        "{} holders, {} waiters, {ends} remembered ends, {outcomes} pending outcomes",
        holders.len(),
        waiters.len()
    )?;
    for (what, tickets) in [("holds", holders), ("waits", waiters)] {
        for ticket in tickets {
            let text = |name: &str| ticket.get(name).map(ToString::to_string).unwrap_or_default();
            let token = text("fencing_token");
            let token = if token == "null" {
                String::new()
            } else {
                format!(" token {token}")
            };
            writeln!(
                stdout,
                "{what} {} {} ticket {}{token}",
                text("key"),
                text("owner"),
                text("ticket")
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
