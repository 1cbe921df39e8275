//! Reference counts in files, shared by all processes that see the directory. Knows no rule of counts.
//!
//! One file for each resource: a line with the SHA-256 of what follows, then JSON. A file is replaced by a rename, so
//! that readers take no lock and see a whole record; what is read is checked, so that a damaged one is an error and
//! never a wrong count. Writers take turns by an advisory lock on the file `lock`: threads and processes alike, and the
//! kernel lets go of it when a process dies. Order: synced, renamed, the folder synced, and only then answered.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::partial::sync_folder_of;
use crate::refcount::{RefCountStorage, ReferenceCount, StorageError};
use crate::{Digest, Error, names};

/// The present form of a record.
const FORMAT: u32 = 1;

/// Keeps reference counts in the files of one directory. What was answered survives `kill -9` and power loss. Any number
/// of processes on one machine may use the directory at once; over a network file system its advisory locks must work.
#[derive(Clone, Debug)]
pub struct FileStorage {
    folder: PathBuf,
}

/// A record as it is written.
#[derive(Serialize, Deserialize)]
struct Record {
    /// For programs to come.
    format: u32,
    /// Whose it is: the file's name may be a hash.
    resource_id: String,
    /// Node ids.
    nodes: Vec<String>,
}

impl FileStorage {
    /// Uses this directory, which is made if it is missing. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(Error::io("creating", &folder))?;
        sync_folder_of(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, resource_id: &str) -> PathBuf {
        self.folder.join(names::file_name(resource_id))
    }

    /// Waits for this writer's turn, which ends with the file that is answered. A process that is stopped in its turn holds up
    /// the others until it goes on or dies.
    fn turn(&self) -> Result<File, StorageError> {
        let path = self.folder.join("lock");
        // Opened anew each time: the lock belongs to the open file, so that threads keep each other out, too.
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(failed("opening", &path))?;
        let locked = rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive));
        locked.map_err(|error| failed("locking", &path)(error.into()))?;
        Ok(file)
    }

    /// Does `change` in this writer's turn, if the record is as expected.
    fn change(
        &self,
        resource_id: &str,
        expected: &ReferenceCount,
        change: impl FnOnce(&Path) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let _turn = self.turn()?;
        if self.get_ref_count(resource_id)? != *expected {
            return Err(StorageError::Conflict);
        }
        let path = self.path(resource_id);
        change(&path)?;
        sync_folder_of(&path).map_err(|error| StorageError::Failed {
            what: "syncing the folder of counts".to_owned(),
            source: Box::new(error),
        })
    }
}

impl RefCountStorage for FileStorage {
    fn get_ref_count(&self, resource_id: &str) -> Result<ReferenceCount, StorageError> {
        let path = self.path(resource_id);
        let corrupt = |problem: &str| StorageError::Corrupt {
            place: path.display().to_string(),
            problem: problem.to_owned(),
        };
        match fs::read(&path) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| corrupt("no text"))?;
                parse(&text, resource_id).map_err(corrupt)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ReferenceCount::new()),
            Err(error) => Err(failed("reading", &path)(error)),
        }
    }

    fn set_ref_count(
        &self,
        resource_id: &str,
        expected: &ReferenceCount,
        new: &ReferenceCount,
    ) -> Result<(), StorageError> {
        if new.is_empty() {
            return self.delete_ref_count(resource_id, expected);
        }
        let text = written(resource_id, new).map_err(|error| failed("writing", &self.folder)(error.into()))?;
        self.change(resource_id, expected, |path| {
            // One writer at a time: what is there under this name, a process that died left.
            let next = self.folder.join("next");
            let write = || {
                let mut file = File::create(&next)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                fs::rename(&next, path)
            };
            write().map_err(failed("writing", path))
        })
    }

    fn delete_ref_count(&self, resource_id: &str, expected: &ReferenceCount) -> Result<(), StorageError> {
        self.change(resource_id, expected, |path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", path)(error)),
            _ => Ok(()),
        })
    }
}

fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let what = format!("{what} {}", path.display());
    move |error| StorageError::Failed {
        what,
        source: Box::new(error),
    }
}

/// The text of a record.
fn written(resource_id: &str, count: &ReferenceCount) -> serde_json::Result<String> {
    let record = Record {
        format: FORMAT,
        resource_id: resource_id.to_owned(),
        nodes: count.nodes().map(str::to_owned).collect(),
    };
    let body = serde_json::to_string(&record)?;
    Ok(format!("{}\n{body}\n", Digest::of(body.as_bytes())))
}

/// The record of a text, or what is wrong with it.
fn parse(text: &str, resource_id: &str) -> Result<ReferenceCount, &'static str> {
    let lines = text.strip_suffix('\n').and_then(|text| text.split_once('\n'));
    let (digest, body) = lines.ok_or("not two lines")?;
    if Digest::of(body.as_bytes()).to_string() != digest {
        return Err("its first line is not the digest of its second");
    }
    let record: Record = serde_json::from_str(body).map_err(|_| "not the JSON of a record")?;
    if record.format != FORMAT {
        return Err("of a format that this release does not know");
    }
    if record.resource_id != resource_id {
        return Err("of another resource");
    }
    Ok(record.nodes.into_iter().collect())
}
