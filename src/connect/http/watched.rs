//! A value made from files, which is made again when they change.
//!
//! Kubernetes replaces mounted Secrets and ConfigMaps while a process runs: tokens every hour,
//! certificates every few months. A read of the value costs a read lock, and at most once a second
//! a `stat` of each file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use super::Error;

/// How long a changed file may go unnoticed.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// A value, and the files that it was made from.
pub struct Watched<T> {
    /// Names the value in logs.
    what: &'static str,
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, Error> + Send + Sync>,
    current: RwLock<Arc<T>>,
    /// The state of the files when `current` was made from them.
    fingerprint: RwLock<Fingerprint>,
    created: Instant,
    period: Duration,
    /// Milliseconds from `created` to the next check of the files.
    next_check: AtomicU64,
}

/// Facts that change with a file; `None` for a missing file.
type Fingerprint = Vec<Option<(SystemTime, u64, u64)>>;

impl<T> Watched<T> {
    /// Loads the value for the first time. Files need not exist. A folder stands for the names in
    /// it.
    pub fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::with_period(CHECK_EVERY, what, files, load)
    }

    fn with_period(
        period: Duration,
        what: &'static str,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        // The fingerprint is taken before loading, so a change in between is seen at the next
        // check.
        let fingerprint = RwLock::new(fingerprint(&files));
        let current = RwLock::new(Arc::new(load()?));
        let next_check = AtomicU64::new(milliseconds(period));
        let load = Box::new(load);
        Ok(Watched { what, files, load, current, fingerprint, created: Instant::now(), period, next_check })
    }

    /// Returns the value, at most a period old. If changed files cannot be used, for example half
    /// written ones, the old value stays until they change again.
    pub fn get(&self) -> Arc<T> {
        if !self.files.is_empty() && self.is_due() {
            self.refresh();
        }
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns true for one caller in each period.
    fn is_due(&self) -> bool {
        let now = milliseconds(self.created.elapsed());
        let due = self.next_check.load(Ordering::Relaxed);
        let next = now.saturating_add(milliseconds(self.period));
        now >= due
            && self.next_check.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn refresh(&self) {
        let fresh = fingerprint(&self.files);
        if *self.fingerprint.read().unwrap_or_else(PoisonError::into_inner) == fresh {
            return;
        }
        *self.fingerprint.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        match (self.load)() {
            Ok(value) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(what = self.what, "Read again, as a file has changed");
            }
            Err(error) => {
                tracing::warn!(what = self.what, %error, "A changed file cannot be used; its earlier content stays in use");
            }
        }
    }
}

fn fingerprint(files: &[PathBuf]) -> Fingerprint {
    let look = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    files.iter().map(look).collect()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(path: &std::path::Path, period: Duration) -> Watched<String> {
        let file = path.to_owned();
        Watched::with_period(period, "text", vec![path.to_owned()], move || {
            fs::read_to_string(&file).map_err(|source| Error::File { path: file.clone(), source })
        })
        .unwrap()
    }

    #[test]
    fn a_change_is_seen_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one").unwrap();
        let watched = watch(&path, Duration::ZERO);
        assert_eq!(*watched.get(), "one");
        fs::remove_file(&path).unwrap();
        assert_eq!(*watched.get(), "one");
        assert_eq!(*watched.get(), "one");
        fs::write(&path, "two!").unwrap();
        assert_eq!(*watched.get(), "two!");
        // Kubernetes also puts another file under the same name, here with the same length.
        fs::write(folder.path().join("next"), "too!").unwrap();
        fs::rename(folder.path().join("next"), &path).unwrap();
        assert_eq!(*watched.get(), "too!");
    }

    #[test]
    fn between_two_looks_the_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one").unwrap();
        let watched = watch(&path, Duration::from_secs(3600));
        fs::write(&path, "two!").unwrap();
        assert_eq!(*watched.get(), "one");
    }
}
