//! Space that is kept in reserve: when the disk is full, it is given up, so that what is held can still be unlocked.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::fs::FallocateFlags;

/// How much: some hundred commits.
const BYTES: u64 = 8 * 1024 * 1024;

/// The file that keeps it.
pub(super) struct Ballast(PathBuf);

impl Ballast {
    /// At this place; nothing is reserved yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Reserves the space, if it is not. Where that would leave less than as much again, there is no space: otherwise a
    /// full disk would be full, and not, and full, with each commit.
    pub(super) fn fill(&self) -> io::Result<()> {
        let reserved = std::fs::metadata(&self.0).is_ok_and(|it| it.blocks() * 512 >= BYTES);
        if reserved {
            return Ok(());
        }
        let disk = rustix::fs::statvfs(self.0.parent().unwrap_or(&self.0))?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < 2 * BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.0)?;
        let filled = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BYTES) {
            Ok(()) => Ok(()),
            // File systems that cannot reserve are written to.
            Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(&file),
            Err(error) => Err(error.into()),
        };
        if filled.is_err() {
            // What was reserved of it would be missing twice.
            let _ = self.release();
        }
        filled
    }

    /// Gives it up.
    pub(super) fn release(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn write_zeros(mut file: &std::fs::File) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), BYTES), &mut file)?;
    file.sync_data()
}
