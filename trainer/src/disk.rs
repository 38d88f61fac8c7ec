//! The operations by which run folders, savepoints and checkpoints come and go, with errors that
//! name the file. They are in one place so that a test can kill the program before and within each
//! of them, or fill the disk there.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use candle_core::Tensor;

use crate::error::{AtPath, Result};

/// Beginning of the names of folders that are being written; what a killed program left of them
/// goes when a run goes on.
pub(crate) const TORN: &str = ".writing-";

/// Makes a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    act(path, || std::fs::create_dir_all(path))
}

/// Writes a file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    act(path, || std::fs::write(path, bytes))
}

/// Writes tensors in the order of their names, so that the same ones give the same bytes.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    act(path, || {
        safetensors::serialize_to_file(tensors, metadata, path).map_err(|error| match error {
            safetensors::SafeTensorError::IoError(error) => error,
            error => std::io::Error::other(error.to_string()),
        })
    })
}

/// Copies a file. What goes wrong is said of the copy: the source was read before.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    act(to, || std::fs::copy(from, to).map(|_| ()))
}

/// Gives a folder its name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    act(to, || std::fs::rename(from, to))
}

/// Waits until a file, or the names in a folder, would outlive a power failure.
pub(crate) fn sync(path: &Path) -> Result<()> {
    act(path, || File::open(path)?.sync_all())
}

/// Removes a folder with all that is in it.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    act(path, || std::fs::remove_dir_all(path))
}

/// Removes what a killed program left half-written in `folder`.
pub(crate) fn remove_torn(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(TORN)) && path.is_dir() {
            remove_folder(&path)?;
        }
    }
    Ok(())
}

fn act(path: &Path, operation: impl FnOnce() -> std::io::Result<()>) -> Result<()> {
    #[cfg(test)]
    let operation = || fault::meet(path, operation);
    operation().at(path)
}

#[cfg(test)]
mod killed;

/// Accidents that tests arrange.
#[cfg(test)]
pub(crate) mod fault {
    use std::cell::Cell;
    use std::io::{Error, ErrorKind, Result};
    use std::path::Path;

    /// What happens at an operation.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(crate) enum Accident {
        /// The program is killed before it.
        KilledBefore,
        /// The program is killed when half of it is done.
        KilledWithin,
        /// The disk is full when half of it is done.
        DiskFull,
    }

    thread_local! {
        static PLAN: Cell<Option<(usize, Accident)>> = const { Cell::new(None) };
        static N_DONE: Cell<usize> = const { Cell::new(0) };
    }

    /// Arranges an accident at this thread's operation number `at`, counted from 0 and from now.
    pub(crate) fn arrange(plan: Option<(usize, Accident)>) {
        PLAN.set(plan);
        N_DONE.set(0);
    }

    /// Operations since then.
    pub(crate) fn n_done() -> usize {
        N_DONE.get()
    }

    pub(super) fn meet(path: &Path, operation: impl FnOnce() -> Result<()>) -> Result<()> {
        let n = N_DONE.get();
        N_DONE.set(n + 1);
        let Some((_, accident)) = PLAN.get().filter(|(at, _)| *at == n) else {
            return operation();
        };
        if accident != Accident::KilledBefore {
            let was_there = path.exists();
            if was_there && path.is_dir() {
                // Half of a removal; other operations on folders are whole or not at all.
                remove_one(path, operation)?;
            } else {
                operation()?;
                undo_half(path)?;
            }
        }
        match accident {
            Accident::DiskFull => Err(Error::from(ErrorKind::StorageFull)),
            _ => kill(),
        }
    }

    /// A folder's first file goes, if the operation on the folder would remove it.
    fn remove_one(path: &Path, operation: impl FnOnce() -> Result<()>) -> Result<()> {
        let spare = path.with_extension("spare");
        let files: Vec<_> = std::fs::read_dir(path)?.flatten().collect();
        std::fs::create_dir_all(&spare)?;
        for file in &files {
            if file.path().is_file() {
                std::fs::copy(file.path(), spare.join(file.file_name()))?;
            }
        }
        operation()?;
        if !path.exists() {
            std::fs::create_dir_all(path)?;
            for file in files.iter().skip(1) {
                let kept = spare.join(file.file_name());
                if kept.is_file() {
                    std::fs::copy(kept, path.join(file.file_name()))?;
                }
            }
        }
        std::fs::remove_dir_all(spare)
    }

    /// A file keeps its first half.
    fn undo_half(path: &Path) -> Result<()> {
        if path.is_file() {
            let file = std::fs::File::options().write(true).open(path)?;
            file.set_len(file.metadata()?.len() / 2)?;
        }
        Ok(())
    }

    /// As `kill -9` does.
    fn kill() -> ! {
        use nix::sys::signal::{Signal, kill};
        use nix::unistd::Pid;
        let sent = kill(Pid::this(), Signal::SIGKILL);
        std::thread::sleep(std::time::Duration::from_secs(60));
        panic!("the program outlived its kill: {sent:?}");
    }
}
