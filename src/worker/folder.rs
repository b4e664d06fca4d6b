//! The working directory of an item, and the files of the shim in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Two folders below one root: `work` is the command's, `data` holds the body. Both are emptied
/// after the item.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Creates the folders below `base`. The name contains the process id, so two shims do not
    /// share one.
    ///
    /// # Errors
    /// If they cannot be created.
    pub fn create(base: &Path) -> io::Result<Self> {
        let root = base.join(format!("longhaul-worker-{}", std::process::id()));
        // A shim with the same process id may have been killed, for example in the container before
        // this one.
        remove(&root)?;
        let folder = Folder { root };
        DirBuilder::new().mode(0o700).recursive(true).create(&folder.root)?;
        DirBuilder::new().mode(0o700).create(folder.work())?;
        Ok(folder)
    }

    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Creates the empty file for the body of the next item.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn new_data(&self) -> io::Result<File> {
        remove_file(&self.data())?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.data())
    }

    /// Removes all files that the item has left.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn empty(&self) -> io::Result<()> {
        remove_file(&self.data())?;
        let work = self.work();
        match fs::symlink_metadata(&work) {
            Ok(kind) if kind.is_dir() => {}
            // The command has removed or replaced its own folder.
            _ => {
                remove(&work)?;
                return DirBuilder::new().mode(0o700).create(&work);
            }
        }
        for entry in fs::read_dir(&work)? {
            remove(&entry?.path())?;
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing else can be done about an error here; the next start removes the folder.
        let _ = remove(&self.root);
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(kind) if kind.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_folder_has_nothing_left() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::create(base.path()).unwrap();
        folder.new_data().unwrap();
        fs::create_dir_all(folder.work().join("a/b")).unwrap();
        std::os::unix::fs::symlink("/", folder.work().join("root")).unwrap();
        folder.empty().unwrap();
        assert_eq!(fs::read_dir(folder.work()).unwrap().count(), 0);
        assert!(!folder.data().exists());
        fs::remove_dir(folder.work()).unwrap();
        folder.empty().unwrap();
        assert!(folder.work().is_dir());
        drop(folder);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
