//! What a journal asks of a disk. It is a trait so that tests can let each of it fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

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

/// The disk of this machine.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sheet>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        if let Some(directory) = path.parent() {
            create_directory(directory)?;
        }
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
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&self.metadata()?) == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed"));
        }
        Ok(())
    }
}

/// Makes a directory that only its owner may look into, unless it is there.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
