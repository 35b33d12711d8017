//! What a journal asks of a disk. It is a trait so that tests can let each of it fail.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::DurableError;

/// The files of a directory.
pub(super) trait Disk: Send {
    /// A new file, or an empty one in place of what was there. Others may not read it: it holds a secret.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sheet>>;

    /// A file that is there, cut at a length, to be gone on with.
    fn reopen(&self, path: &Path, length: u64) -> io::Result<Box<dyn Sheet>>;

    /// Gives a file another name, for good: also if the machine stops.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that is written from its start to its end.
pub(super) trait Sheet: Send {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Waits until what was written is on the disk, for good.
    fn sync(&mut self) -> io::Result<()>;

    /// Fails if the file was removed, so that nobody will find what is written to it.
    fn check(&self) -> io::Result<()>;
}

/// A directory of this machine, locked for this process.
#[derive(Debug)]
pub(super) struct RealDisk {
    directory: PathBuf,
    /// The system gives the lock back when the process ends, however it ends.
    lock: Mutex<File>,
}

impl RealDisk {
    /// Makes the directory if it is not there, and locks it.
    pub(super) fn lock(directory: &Path) -> Result<Self, DurableError> {
        Ok(Self { directory: directory.to_owned(), lock: Mutex::new(lock(directory)?) })
    }

    /// Locks the directory again if somebody has removed it, or the lock's file.
    fn keep_locked(&self) -> io::Result<()> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if check(&held).is_err() {
            *held = lock(&self.directory).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sheet>> {
        self.keep_locked()?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Box::new(options.open(path)?))
    }

    fn reopen(&self, path: &Path, length: u64) -> io::Result<Box<dyn Sheet>> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.seek(SeekFrom::End(0))?;
        file.sync_all()?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        // Where a directory cannot be opened as a file, its entries are written when the system likes.
        match to.parent().map(File::open) {
            Some(Ok(directory)) => directory.sync_all(),
            _ => Ok(()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

impl Sheet for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn check(&self) -> io::Result<()> {
        check(self)
    }
}

/// Fails if a file was removed.
fn check(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed"));
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// Takes the lock of a directory.
fn lock(directory: &Path) -> Result<File, DurableError> {
    let unusable = |source| DurableError::Directory { path: directory.to_owned(), source };
    create_directory(directory).map_err(unusable)?;
    let path = directory.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let by = if holder.is_empty() { String::new() } else { format!(" ({})", holder.trim()) };
            return Err(DurableError::InUse { path: directory.to_owned(), by });
        }
        Err(TryLockError::Error(source)) => return Err(DurableError::File { path, doing: "lock", source }),
    }
    // For whoever finds it locked; it is of no consequence otherwise.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
    Ok(file)
}

/// Makes a directory that only its owner may look into, unless it is there.
fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
