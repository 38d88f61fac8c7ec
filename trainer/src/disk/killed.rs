//! A run that is killed before or within any single operation on the disk, or finds it full there,
//! goes on to what it would have made.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::TORN;
use super::fault::{Accident, arrange, n_done};
use crate::config::{Preset, RewardConfig, SftConfig};
use crate::error::Result;
use crate::progress::Silent;
use crate::reward::{self, RewardJob};
use crate::savepoint::SavePolicy;
use crate::sft::{self, Outcome, SftJob};

/// Tells the test's own child where to work, and where to die.
const FOLDER: &str = "PLACKETT_TEST_FOLDER";
const PLAN: &str = "PLACKETT_TEST_PLAN";

/// Held by each test: a child that the one starts has, for a moment, the other's locks.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny")
}

fn saving(resume: bool) -> SavePolicy {
    SavePolicy {
        every: Some(Duration::ZERO),
        resume,
        ..SavePolicy::default()
    }
}

fn write_lines(path: &Path, lines: impl Iterator<Item = Value>) {
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap();
}

/// Three steps, so that a savepoint goes when the third is kept.
fn fine_tune(folder: &Path, out: &str, resume: bool) -> Result<Outcome> {
    let job = SftJob {
        config: SftConfig {
            epochs: 3,
            held_out_share: 0.0,
            ..SftConfig::preset(Preset::Tiny)
        },
        data: folder.join("data.jsonl"),
        texts: None,
        reward: None,
        base: base(),
        out: folder.join(out),
        saving: saving(resume),
    };
    sft::run(&job, &mut Silent)
}

fn write_demonstrations(folder: &Path) {
    let line = |n: usize| {
        json!({"id": n.to_string(), "messages": [
            {"role": "user", "content": format!("say {n}")},
            {"role": "assistant", "content": "red"},
        ]})
    };
    write_lines(&folder.join("data.jsonl"), (0..2).map(line));
}

/// A reward model's folder is written over in part.
fn fit_reward(folder: &Path, out: &str, resume: bool) -> Result<Outcome> {
    let job = RewardJob {
        config: RewardConfig {
            epochs: 3,
            ..RewardConfig::preset(Preset::Tiny)
        },
        data: folder.join("data.jsonl"),
        demonstrations: None,
        base: base(),
        out: folder.join(out),
        saving: saving(resume),
    };
    reward::run(&job, &mut Silent)
}

fn write_rankings(folder: &Path) {
    let line = |n: usize| {
        json!({"id": n.to_string(), "prompt": format!("say {n}"), "completions": [
            {"id": "a", "text": "red", "rank": 1}, {"id": "b", "text": "no", "rank": 2},
        ]})
    };
    write_lines(&folder.join("data.jsonl"), (0..3).map(line));
}

/// What a run leaves, but for times: the checkpoint's files, and the figures.
fn left_by(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut left = BTreeMap::new();
    for entry in std::fs::read_dir(out.join("checkpoint")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        left.insert(name, std::fs::read(path).unwrap());
    }
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    for (n, line) in metrics.lines().enumerate() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("time");
        left.insert(format!("metrics {n}"), line.to_string().into_bytes());
    }
    left
}

/// After an accident there is the whole checkpoint or none, and then the run goes on to it.
fn assert_goes_on(
    folder: &Path,
    out: &str,
    straight: &BTreeMap<String, Vec<u8>>,
    run: &dyn Fn(&Path, &str, bool) -> Result<Outcome>,
) {
    let place = folder.join(out);
    if !place.join("checkpoint").exists() {
        run(folder, out, true).unwrap();
        assert!(!place.join("savepoints").exists());
        for entry in std::fs::read_dir(&place).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.to_string_lossy().starts_with(TORN), "{name:?}");
        }
    }
    let left = left_by(&place);
    assert!(
        left == *straight,
        "{out} made {:?}",
        left.keys()
            .filter(|name| left.get(*name) != straight.get(*name))
            .collect::<Vec<_>>()
    );
}

/// Operations of a run that nothing happens to, and what it leaves.
fn go_straight(
    folder: &Path,
    run: &dyn Fn(&Path, &str, bool) -> Result<Outcome>,
) -> (usize, BTreeMap<String, Vec<u8>>) {
    arrange(None);
    run(folder, "straight", false).unwrap();
    let n = n_done();
    assert!(n > 20, "only {n} operations were seen");
    (n, left_by(&folder.join("straight")))
}

/// Item 55 of the checklist, with a real `kill -9` at each operation: this test starts itself
/// again, and that child kills itself.
#[test]
fn a_run_killed_at_any_operation_goes_on_to_the_same_bytes() {
    const NAME: &str = "disk::killed::a_run_killed_at_any_operation_goes_on_to_the_same_bytes";
    if let (Ok(folder), Ok(plan)) = (std::env::var(FOLDER), std::env::var(PLAN)) {
        let (out, at, within) = serde_json::from_str::<(String, usize, bool)>(&plan).unwrap();
        let accident = match within {
            true => Accident::KilledWithin,
            false => Accident::KilledBefore,
        };
        arrange(Some((at, accident)));
        let ended = fine_tune(Path::new(&folder), &out, false);
        panic!("the child lived: {ended:?}");
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_demonstrations(folder);
    let (n, straight) = go_straight(folder, &fine_tune);
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let case = next.fetch_add(1, Ordering::Relaxed);
            if case >= 2 * n {
                return;
            }
            let out = format!("killed-{case}");
            let plan = json!([out, case / 2, case % 2 == 1]);
            let status = Command::new(std::env::current_exe().unwrap())
                .args([NAME, "--exact"])
                .env(FOLDER, folder)
                .env(PLAN, plan.to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.signal(), Some(9), "{plan}: {status}");
            assert_goes_on(folder, &out, &straight, &fine_tune);
            std::fs::remove_dir_all(folder.join(out)).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
}

/// Runs with a disk that is full at each operation in turn.
fn fill_at_each_operation(folder: &Path, run: &dyn Fn(&Path, &str, bool) -> Result<Outcome>) {
    let (n, straight) = go_straight(folder, run);
    for at in 0..n {
        let out = format!("full-{at}");
        arrange(Some((at, Accident::DiskFull)));
        let error = run(folder, &out, false).unwrap_err().to_string();
        arrange(None);
        assert!(error.contains("no storage space"), "{error}");
        let place = folder.join(&out).display().to_string();
        assert!(error.contains(&place) && !error.contains('\n'), "{error}");
        assert_goes_on(folder, &out, &straight, run);
        std::fs::remove_dir_all(folder.join(out)).unwrap();
    }
}

#[test]
fn a_run_that_finds_the_disk_full_at_any_operation_says_so_and_goes_on_later() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    write_demonstrations(folder.path());
    fill_at_each_operation(folder.path(), &fine_tune);
    let folder = tempfile::tempdir().unwrap();
    write_rankings(folder.path());
    fill_at_each_operation(folder.path(), &fit_reward);
}
