//! The directory that a store is in, seen as a disk: what a simulation puts its own in the place of.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};
use rustix::fs::{FallocateFlags, FlockOperation};

use super::{OpenError, io_error, shown};

/// Pages that are kept in memory.
pub const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// How much space is kept in reserve for when the disk is full: enough for some hundred commits.
const RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// One directory, of one process.
pub trait Disk: Send + Sync + 'static {
    /// What it is called, for people.
    fn name(&self) -> String;

    /// Where it is, if it is a directory of this machine.
    fn path(&self) -> Option<&Path>;

    /// Makes a data file, or opens one that is there.
    fn data(&self, file: &str, new: bool) -> Result<Database, DatabaseError>;

    /// Whether there is such a file.
    fn exists(&self, file: &str) -> io::Result<bool>;

    /// Gives a file another name. A power loss may undo it until the names are synced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Syncs the names of files.
    fn sync_names(&self) -> io::Result<()>;

    /// Removes a file, if it is there.
    fn remove(&self, file: &str) -> io::Result<()>;

    /// What was noted last.
    fn noted(&self) -> io::Result<Option<Vec<u8>>>;

    /// Notes a few bytes, without a sync: after a power loss older ones may be there.
    fn note(&self, bytes: &[u8]) -> io::Result<()>;

    /// Keeps space in reserve, if it does not yet. Where that would leave less than as much again, there is no space:
    /// otherwise a full disk would be full, and not, and full, with each commit.
    fn reserve(&self) -> io::Result<()>;

    /// Gives the reserve up.
    fn release(&self) -> io::Result<()>;
}

/// The data file. That it cannot be synced for want of space is no full disk: what was written before and not synced may
/// be gone, and another try would not say so.
#[derive(Debug)]
struct Pages(FileBackend);

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let failed = |error: io::Error| io::Error::other(format!("it cannot be synced: {error}"));
        self.0.sync_data().map_err(failed)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

/// A directory of this machine.
pub(super) struct Folder {
    path: PathBuf,
    /// Locked until this is dropped or the process ends.
    _lock: File,
    notes: File,
}

impl Folder {
    /// Makes this process the only one that may write there; makes the directory if need be.
    pub(super) fn claim(path: &Path) -> Result<Self, OpenError> {
        make(path).map_err(|error| io_error(&shown(path), error))?;
        let writable = |file: &str| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true);
            options
                .open(path.join(file))
                .map_err(|error| io_error(&shown(path), error))
        };
        let mut lock = writable("lock")?;
        if let Err(error) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(io_error(&shown(path), error.into()));
            }
            let mut by = String::new();
            // Whoever has it may not have said so yet.
            let _ = lock.read_to_string(&mut by);
            return Err(OpenError::InUse {
                dir: shown(path),
                by: by.trim().to_owned(),
            });
        }
        let said = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "process {}", std::process::id()));
        said.map_err(|error| io_error(&shown(path), error))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            notes: writable("progress")?,
        })
    }

    /// Syncs what was noted.
    pub(super) fn sync_note(&self) -> io::Result<()> {
        self.notes.sync_all()
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Disk for Folder {
    fn name(&self) -> String {
        shown(&self.path)
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn data(&self, file_name: &str, new: bool) -> Result<Database, DatabaseError> {
        let mut options = OpenOptions::new();
        let file = options.create(new).truncate(new).read(true).write(true);
        let pages = Pages(FileBackend::new(file.open(self.path.join(file_name))?)?);
        // redb would take an empty file for a new one.
        if !new && pages.len()? == 0 {
            return Err(DatabaseError::Storage(
                io::Error::from(io::ErrorKind::UnexpectedEof).into(),
            ));
        }
        Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(pages)
    }

    fn exists(&self, file: &str) -> io::Result<bool> {
        self.path.join(file).try_exists()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn noted(&self) -> io::Result<Option<Vec<u8>>> {
        let mut notes = &self.notes;
        notes.rewind()?;
        let mut bytes = Vec::new();
        notes.read_to_end(&mut bytes)?;
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    fn note(&self, bytes: &[u8]) -> io::Result<()> {
        self.notes.write_all_at(bytes, 0)
    }

    fn reserve(&self) -> io::Result<()> {
        let path = self.ballast();
        let reserved = std::fs::metadata(&path).is_ok_and(|it| it.blocks() * 512 >= RESERVE_BYTES);
        if reserved {
            return Ok(());
        }
        let disk = rustix::fs::statvfs(&self.path)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < 2 * RESERVE_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        let filled = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
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

    fn release(&self) -> io::Result<()> {
        self.remove("ballast")
    }
}

/// Makes a directory and those above it, if need be, so that a power loss does not take their names.
fn make(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|it| !it.exists()).collect();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let here = parent.as_os_str().is_empty();
        File::open(if here { Path::new(".") } else { parent })?.sync_all()?;
    }
    Ok(())
}

fn write_zeros(mut file: &File) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(RESERVE_BYTES), &mut file)?;
    file.sync_data()
}
