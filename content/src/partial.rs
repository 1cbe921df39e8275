//! A file that is being written, and how it becomes content. Knows neither locks nor counts.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::Error;

/// Content that is not visible yet. Calls block for as long as the disk does.
#[derive(Debug)]
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    /// Where it is to be visible.
    target: PathBuf,
}

impl Partial {
    /// A new file at `path`, for the content at `target`.
    pub(crate) fn create(path: PathBuf, target: PathBuf) -> Result<Self, Error> {
        let file = File::create_new(&path).map_err(Error::io("creating", &path))?;
        Ok(Self { file, path, target })
    }

    /// Writes at this place, so that a write that is repeated after it failed half-way leaves nothing twice.
    pub(crate) fn write_at(&self, chunk: &[u8], offset: u64) -> Result<(), Error> {
        let written = self.file.write_all_at(chunk, offset);
        written.map_err(Error::io("writing", &self.path))
    }

    /// Cuts what failed writes left behind `length` bytes, and has the rest on the disk.
    pub(crate) fn sync(&self, length: u64) -> Result<(), Error> {
        let synced = self.file.set_len(length).and_then(|()| self.file.sync_all());
        synced.map_err(Error::io("syncing", &self.path))
    }

    /// Makes the content visible, in one step. Safe to repeat. `false`: somebody removed this file, as the next holder of
    /// the lock does; nothing was changed.
    pub(crate) fn publish(&self) -> Result<bool, Error> {
        match std::fs::rename(&self.path, &self.target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !self.is_published() {
                    return Ok(false);
                }
            }
            Err(error) => return Err(Error::io("publishing", &self.path)(error)),
        }
        sync_folder_of(&self.target)?;
        Ok(true)
    }

    /// Whether it is what is visible.
    pub(crate) fn is_published(&self) -> bool {
        let same =
            |(own, there): (std::fs::Metadata, std::fs::Metadata)| (own.dev(), own.ino()) == (there.dev(), there.ino());
        let own = self.file.metadata();
        own.and_then(|own| Ok((own, self.target.metadata()?))).is_ok_and(same)
    }

    /// Removes it, if it is still there. What cannot be removed, the next holder of the lock removes.
    pub(crate) fn discard(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for Partial {
    /// Its name carries the holder's token: once it is published, nothing else has it.
    fn drop(&mut self) {
        self.discard();
    }
}

/// Has the entries of the folder around `path` on the disk.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(Error::io("syncing", folder))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A partial file in a folder that ends with the test.
    fn partial() -> (tempfile::TempDir, Partial) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name| folder.path().join(name);
        let partial = Partial::create(path("partial"), path("target")).expect("created");
        (folder, partial)
    }

    /// Goal: publishing can be repeated where its answer was lost, and does nothing once the file was removed.
    #[test]
    fn publishing_is_repeated_or_barred() {
        let (_folder, partial) = partial();
        fs::write(&partial.target, "before").expect("written");
        partial.write_at(b"content", 0).expect("written");
        assert!(partial.publish().expect("published"));
        assert!(partial.publish().expect("published before"));
        assert_eq!(fs::read_to_string(&partial.target).expect("read"), "content");
        fs::remove_file(&partial.target).expect("removed");
        fs::write(&partial.target, "another one's").expect("written");
        assert!(!partial.publish().expect("barred"), "what is there is not this file");
        assert_eq!(fs::read_to_string(&partial.target).expect("read"), "another one's");
    }

    /// Goal: a write that failed half-way and is repeated leaves nothing twice, and nothing behind the end.
    #[test]
    fn a_repeated_write_leaves_nothing_twice() {
        let (_folder, partial) = partial();
        partial
            .write_at(b"content, and what a failed write left", 0)
            .expect("written");
        partial.write_at(b"content", 0).expect("written");
        partial.sync(7).expect("synced");
        assert!(partial.publish().expect("published"));
        assert_eq!(fs::read_to_string(&partial.target).expect("read"), "content");
    }
}
