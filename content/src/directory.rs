//! The directory that nodes share: `blobs/` has content, `partial/` what is being written, `counts/` is
//! [`FileStorage`](crate::FileStorage)'s. Knows neither locks nor counts; calls block for as long as the disk does.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::digest::Hashing;
use crate::partial::{Partial, sync_folder_of};
use crate::{Digest, Error, names};

/// Read at once when content is checked, in bytes.
const CHUNK: usize = 64 * 1024;

/// The directory of content.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    blobs: PathBuf,
    partial: PathBuf,
}

impl Directory {
    /// Makes what is missing of it.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let directory = Self {
            blobs: root.join("blobs"),
            partial: root.join("partial"),
        };
        for folder in [&directory.blobs, &directory.partial] {
            fs::create_dir_all(folder).map_err(Error::io("creating", folder))?;
            sync_folder_of(folder)?;
        }
        Ok(directory)
    }

    /// Where the content of a resource is.
    pub(crate) fn content(&self, resource_id: &str) -> PathBuf {
        self.blobs.join(names::file_name(resource_id))
    }

    /// Whether there is content, of this size if one is known.
    pub(crate) fn is_there(&self, resource_id: &str, size: Option<u64>) -> Result<bool, Error> {
        let path = self.content(resource_id);
        match fs::metadata(&path) {
            Ok(found) => Ok(size.is_none_or(|size| size == found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("looking at", &path)(error)),
        }
    }

    /// Whether there is content with this digest. If so, it is on the disk from here on, whoever wrote it.
    pub(crate) fn verify(&self, resource_id: &str, digest: Digest) -> Result<bool, Error> {
        let path = self.content(resource_id);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("opening", &path)(error)),
        };
        let mut hashing = Hashing::default();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = file.read(&mut chunk).map_err(Error::io("reading", &path))?;
            let Some(bytes) = chunk.get(..read).filter(|it| !it.is_empty()) else {
                break;
            };
            hashing.update(bytes);
        }
        if hashing.digest() != digest {
            return Ok(false);
        }
        file.sync_all().map_err(Error::io("syncing", &path))?;
        sync_folder_of(&path)?;
        Ok(true)
    }

    /// Removes what earlier holders left: those are dead, or have lost their lock and are not to make anything visible any
    /// more. Every holder does so before it looks at what is there.
    pub(crate) fn bar_earlier(&self, resource_id: &str, token: u64) -> Result<(), Error> {
        let name = names::file_name(resource_id);
        for (path, left_by) in self.partials_of(&name)? {
            // A later holder's is not ours to touch: whoever sees one has lost its lock, or another store gives the tokens.
            if left_by < token {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::io("removing", &path)(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A new partial file for the holder with this token.
    pub(crate) fn create_partial(&self, resource_id: &str, token: u64) -> Result<Partial, Error> {
        self.bar_earlier(resource_id, token)?;
        let name = names::file_name(resource_id);
        Partial::create(self.partial.join(format!("{name}.{token}")), self.content(resource_id))
    }

    /// Partial files of a resource, and the tokens of those who left them. A file name has no dot but before the token.
    fn partials_of(&self, name: &str) -> Result<Vec<(PathBuf, u64)>, Error> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.partial).map_err(Error::io("reading", &self.partial))? {
            let entry = entry.map_err(Error::io("reading", &self.partial))?;
            let file = entry.file_name();
            let token = file
                .to_str()
                .and_then(|file| file.rsplit_once('.'))
                .filter(|(of, _)| *of == name)
                .and_then(|(_, token)| token.parse().ok());
            found.extend(token.map(|token| (entry.path(), token)));
        }
        Ok(found)
    }

    /// Removes the content of a resource, if there is any.
    pub(crate) fn remove(&self, resource_id: &str) -> Result<(), Error> {
        let path = self.content(resource_id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("removing", &path)(error)),
            Ok(()) => sync_folder_of(&path),
        }
    }
}
