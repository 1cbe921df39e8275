//! The server's disk: what was written and not synced is lost with the power, wholly or in part; and it can fail.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Builder, Database, DatabaseError, StorageBackend};
use ticketlock::store::file::Disk;
use ticketlock_verify::Random;
use turmoil::fs::shim::std::fs::{self, File, OpenOptions, sync_dir};

/// The store's directory.
const DIR: &str = "/data";
/// Pages that are kept in memory.
const CACHE_BYTES: usize = 256 * 1024;
/// Torn writes end at a multiple of this.
pub const SECTOR: u64 = 512;

/// What is wrong with the disk. It outlives the server's host.
#[derive(Debug, Default)]
pub struct Trouble {
    /// The power goes after so many more writes.
    pub cut_after: Option<u64>,
    /// The next sync or the next write fails.
    pub fail_sync: bool,
    /// The next write fails.
    pub fail_write: bool,
    /// A commit takes up to two seconds.
    pub slow: bool,
    /// There is no space, but what was kept in reserve.
    pub full: bool,
    /// Space is kept in reserve.
    reserved: bool,
    /// What was noted without a sync; the last is what a reader sees.
    notes: Vec<Vec<u8>>,
}

/// A disk in a computer that may lose its power.
#[derive(Clone, Debug)]
pub struct SimDisk {
    trouble: Arc<Mutex<Trouble>>,
    power: Arc<AtomicBool>,
}

impl SimDisk {
    /// As it is found when the power comes (back): the notes may be older ones.
    pub fn on(trouble: &Arc<Mutex<Trouble>>, random: &Random) -> io::Result<Self> {
        if !fs::exists(DIR) {
            fs::create_dir(DIR)?;
            sync_dir("/")?;
        }
        let disk = Self {
            trouble: Arc::clone(trouble),
            power: Arc::new(AtomicBool::new(true)),
        };
        let mut trouble = disk.trouble();
        let kept = random.below(u64::try_from(trouble.notes.len()).unwrap_or_default().min(4));
        for _ in 0..kept {
            trouble.notes.pop();
        }
        drop(trouble);
        Ok(disk)
    }

    /// The power goes: nothing is written any more, not by what is torn down either.
    pub fn power_off(&self) {
        self.power.store(false, Ordering::SeqCst);
    }

    /// Whether there is power.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.power.load(Ordering::SeqCst)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn powered(&self) -> io::Result<()> {
        if self.is_on() {
            Ok(())
        } else {
            Err(io::Error::other("there is no power"))
        }
    }

    /// Before each write.
    fn writing(&self) -> io::Result<()> {
        self.powered()?;
        let mut trouble = self.trouble();
        if let Some(left) = &mut trouble.cut_after {
            if *left == 0 {
                self.power_off();
                return self.powered();
            }
            *left -= 1;
        }
        if std::mem::take(&mut trouble.fail_write) {
            return Err(io::Error::other("the simulated disk failed a write"));
        }
        if trouble.full && trouble.reserved {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn path(file: &str) -> String {
        format!("{DIR}/{file}")
    }
}

impl Disk for SimDisk {
    fn name(&self) -> String {
        "the simulated disk".to_owned()
    }

    fn path(&self) -> Option<&Path> {
        None
    }

    fn data(&self, file: &str, new: bool) -> Result<Database, DatabaseError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(new);
        let storage = |error: io::Error| DatabaseError::Storage(error.into());
        let opened = self.powered().and_then(|()| options.open(Self::path(file)));
        let device = Device {
            file: opened.map_err(storage)?,
            disk: self.clone(),
        };
        if !new && device.len().map_err(storage)? == 0 {
            return Err(storage(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        builder.create_with_backend(device)
    }

    fn exists(&self, file: &str) -> io::Result<bool> {
        Ok(fs::exists(Self::path(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.writing()?;
        fs::rename(Self::path(from), Self::path(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.powered()?;
        sync_dir(DIR)
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        self.powered()?;
        if fs::exists(Self::path(file)) {
            fs::remove_file(Self::path(file))?;
        }
        Ok(())
    }

    fn noted(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.trouble().notes.last().cloned())
    }

    fn note(&self, bytes: &[u8]) -> io::Result<()> {
        self.powered()?;
        let mut trouble = self.trouble();
        if trouble.notes.len() > 8 {
            trouble.notes.remove(0);
        }
        trouble.notes.push(bytes.to_vec());
        Ok(())
    }

    fn reserve(&self) -> io::Result<()> {
        let mut trouble = self.trouble();
        if trouble.full && !trouble.reserved {
            return Err(io::ErrorKind::StorageFull.into());
        }
        trouble.reserved = true;
        Ok(())
    }

    fn release(&self) -> io::Result<()> {
        self.trouble().reserved = false;
        Ok(())
    }
}

/// The data file.
#[derive(Debug)]
struct Device {
    file: File,
    disk: SimDisk,
}

impl StorageBackend for Device {
    fn len(&self) -> io::Result<u64> {
        self.disk.powered()?;
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.powered()?;
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.writing()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.powered()?;
        if std::mem::take(&mut self.disk.trouble().fail_sync) {
            return Err(io::Error::other("the simulated disk failed a sync"));
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.writing()?;
        self.file.write_all_at(data, offset)
    }
}
