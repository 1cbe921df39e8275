//! What a value may be. A file without ties to the rest of the command, because `fuzz/` compiles it, too.

use std::path::PathBuf;
use std::time::Duration;

/// The policies, as the command line says them.
pub type OnDisconnect = ticketlock_client::OnDisconnect;

pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; expected for example 500ms, 30s or 10m"))
}

pub fn parse_positive(text: &str) -> Result<Duration, String> {
    parse_duration(text).and_then(|it| {
        if it.is_zero() {
            Err("must be longer than 0".to_owned())
        } else {
            Ok(it)
        }
    })
}

pub fn parse_on_disconnect(text: &str) -> Result<OnDisconnect, String> {
    match text.split_once('=') {
        None if text == "release" => Ok(OnDisconnect::Release),
        None if text == "lease" => Ok(OnDisconnect::Lease),
        None if text == "grace" => Ok(OnDisconnect::Grace(Duration::from_secs(10))),
        Some(("grace", duration)) => parse_duration(duration).map(OnDisconnect::Grace),
        _ => Err("expected release, grace=DURATION or lease".to_owned()),
    }
}

pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Where locks are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this process.
    Memory,
    /// In a directory.
    File(PathBuf),
}

pub fn parse_store(url: &str) -> Result<StoreUrl, String> {
    match url.split_once(':').unwrap_or((url, "")) {
        ("memory", "") => Ok(StoreUrl::Memory),
        ("file", "") => Err("it needs a directory: file:DIR".to_owned()),
        ("file", dir) => Ok(StoreUrl::File(PathBuf::from(dir))),
        (name @ ("redis" | "mysql" | "postgres" | "etcd"), _) => Err(format!(
            "the {name} store is not there yet: this release has `file:DIR` and `memory:`"
        )),
        _ => Err("no such store: this release has `file:DIR` and `memory:`".to_owned()),
    }
}
