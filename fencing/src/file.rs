//! A file that refuses older tokens. It owns the file's content, and a record and a lock beside it; it knows nothing of
//! locks on a server.
//!
//! For `NAME` there are `NAME.fence`, the record of what was seen, `NAME.fence.turn`, whose lock one request has at a
//! time, and, within a request, `NAME.fence.new`. The content stays an ordinary file, for readers that do not need a
//! fence.
//!
//! Invariants:
//! - The record is on the disk before content that was written under it is visible, and it never goes down. So no crash
//!   leaves newer content with an older record.
//! - Content is replaced as a whole: a reader sees all of one write, or all of another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::{Error, Fence, record};

/// A file whose content is read and replaced under a fence.
///
/// All calls block on the disk, and on other requests to the same file: from async code, call them where blocking is
/// allowed, such as `tokio::task::spawn_blocking`. A call that has begun cannot be cancelled. A process that is stopped
/// within a call keeps others out until it goes on or dies, and then finishes in its turn.
///
/// Limits: the file system is local, all writers go through this type, and what is beside the file belongs to it: move,
/// copy and restore `NAME.fence` together with `NAME`. The directory must be writable. A symbolic link is followed when
/// the file is opened; a hard link to the file keeps the old content.
///
/// ```
/// use ticketlock_fencing::Fence;
/// use ticketlock_fencing::file::FencedFile;
///
/// # fn main() -> Result<(), ticketlock_fencing::Error> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// # let path = folder.path().join("state.json");
/// let file = FencedFile::open(&path)?;
/// let (older, newer) = (Fence::exclusive(41)?, Fence::exclusive(44)?);
/// file.write(older, b"from the first holder")?;
/// // The second holder shows its token with its first read.
/// assert_eq!(file.read(newer)?, b"from the first holder");
/// // From then on, the first holder is refused.
/// assert!(file.write(older, b"late").is_err_and(|error| error.is_stale()));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FencedFile {
    /// The content.
    path: PathBuf,
    /// Where the content is: renames are durable once it is synced.
    folder: PathBuf,
    /// The record.
    record: PathBuf,
    /// What a request locks.
    turn: PathBuf,
    /// What is renamed over the record or the content; written only in one's turn.
    new: PathBuf,
}

impl FencedFile {
    /// Names the file, which need not exist yet; its directory must. Nothing is made before the first request.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory is not there, or the path names no file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = resolve(path.as_ref())?;
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Ok(Self {
            folder: path.parent().unwrap_or(Path::new("/")).to_owned(),
            record: beside(".fence"),
            turn: beside(".fence.turn"),
            new: beside(".fence.new"),
            path,
        })
    }

    /// The content, empty if there is none yet. It shows the fence, too: what an older holder writes after this read
    /// would be lost with the reader's own write, and is refused from here on. Blocks.
    ///
    /// # Errors
    /// [`Error::Stale`] if a later holder was here; [`Error::NoRecord`], [`Error::Corrupt`], [`Error::Io`].
    pub fn read(&self, fence: Fence) -> Result<Vec<u8>, Error> {
        let _turn = self.enter(fence, false)?;
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(failed("read", &self.path)),
        }
    }

    /// Replaces the content, durably once this returns. Keeps the permissions of the old content, not its owner.
    /// Blocks.
    ///
    /// # Errors
    /// [`Error::Stale`] if a later holder was here, and nothing was written; [`Error::NoRecord`], [`Error::Corrupt`],
    /// likewise; [`Error::Io`], after which the content is the old or the new one.
    pub fn write(&self, fence: Fence, content: &[u8]) -> Result<(), Error> {
        let _turn = self.enter(fence, false)?;
        self.replace(&self.path, content)
    }

    /// Begins to guard content that never was: from here on, what is older than this fence is refused. Where there is a
    /// record already, this is a read without its content. Blocks.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::Corrupt`], [`Error::Io`].
    pub fn adopt(&self, fence: Fence) -> Result<(), Error> {
        self.enter(fence, true).map(drop)
    }

    /// Waits for this request's turn, and lets it in or not. What it leaves on the disk refuses all that is older.
    fn enter(&self, fence: Fence, adopt: bool) -> Result<File, Error> {
        let turn = OpenOptions::new().create(true).append(true).open(&self.turn);
        let turn = turn.map_err(failed("open", &self.turn))?;
        rustix::io::retry_on_intr(|| flock(&turn, FlockOperation::LockExclusive))
            .map_err(|errno| failed("lock", &self.turn)(errno.into()))?;
        let seen = self.seen(adopt)?;
        let raised = fence.admit(seen)?;
        if raised > seen {
            self.replace(&self.record, &record::encode(raised))?;
        } else {
            // Order: whoever wrote this record may have been killed before it was synced, and content must not come
            // first.
            self.sync_folder()?;
        }
        Ok(turn)
    }

    /// What the record says; 0 where the file has no past.
    fn seen(&self, adopt: bool) -> Result<u64, Error> {
        let resource = || self.path.display().to_string();
        match fs::read(&self.record) {
            Ok(bytes) => match record::decode(&bytes) {
                Some((seen, [])) => Ok(seen),
                _ => Err(Error::Corrupt { resource: resource() }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A first write leaves its record before its content, so such content is not a crash's.
                let content = self.path.try_exists().map_err(failed("look for", &self.path))?;
                if content && !adopt {
                    return Err(Error::NoRecord { resource: resource() });
                }
                Ok(0)
            }
            Err(error) => Err(failed("read", &self.record)(error)),
        }
    }

    /// Puts these bytes in the place of the old ones, in one step, durably.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut new = File::create(&self.new).map_err(failed("create", &self.new))?;
        new.write_all(bytes).map_err(failed("write", &self.new))?;
        match fs::metadata(path) {
            Ok(old) => new
                .set_permissions(old.permissions())
                .map_err(failed("set the permissions of", &self.new))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", path)(error)),
        }
        // Order: first the bytes, then their name, then the directory that holds it.
        new.sync_all().map_err(failed("sync", &self.new))?;
        fs::rename(&self.new, path).map_err(failed("rename", &self.new))?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<(), Error> {
        let folder = File::open(&self.folder).map_err(failed("open", &self.folder))?;
        folder.sync_all().map_err(failed("sync", &self.folder))
    }
}

/// One name for one file, whatever leads to it: otherwise it would have two records.
fn resolve(path: &Path) -> Result<PathBuf, Error> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let nameless = || failed("open", path)(io::Error::from(io::ErrorKind::InvalidInput));
            let name = path.file_name().ok_or_else(nameless)?;
            let folder = match path.parent() {
                Some(folder) if folder != Path::new("") => folder,
                _ => Path::new("."),
            };
            let folder = fs::canonicalize(folder).map_err(failed("open", folder))?;
            Ok(folder.join(name))
        }
        resolved => resolved.map_err(failed("open", path)),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}
