//! A disk that fills up during a run: the run ends in a sentence, what it kept before stays
//! usable, and once there is room again it goes on to what it would have made.
//!
//! The test starts itself again as a child and has the system refuse to let the child's files
//! grow, which needs no rights. As root it also fills a real, small disk.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use place::Place;
use serde_json::{Value, json};
use trainer::config::{DpoConfig, PpoConfig, Preset, RewardConfig, SftConfig};
use trainer::dpo::{self, DpoJob};
use trainer::error::Result;
use trainer::ppo::{self, PpoJob};
use trainer::progress::{Event, Progress};
use trainer::reward::{self, RewardJob};
use trainer::savepoint::SavePolicy;
use trainer::sft::{self, Outcome, SftJob};

/// Tells the child what to do.
const PLAN: &str = "PLACKETT_TEST_DISK";

const KINDS: [&str; 4] = ["sft", "reward", "dpo", "ppo"];

/// Held by each test: a child that the one starts has, for a moment, the other's locks.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a kind of training on the data of the folder `data`, with a savepoint at each step.
fn run(
    kind: &str,
    data: &Path,
    out: &Path,
    resume: bool,
    progress: &mut dyn Progress,
) -> Result<Outcome> {
    let saving = SavePolicy {
        every: Some(Duration::ZERO),
        resume,
        ..SavePolicy::default()
    };
    let (base, out) = (data.join("base"), out.to_owned());
    match kind {
        "sft" => sft::run(
            &SftJob {
                config: SftConfig::preset(Preset::Tiny),
                data: data.join("demonstrations.jsonl"),
                texts: None,
                base,
                reward: None,
                out,
                saving,
            },
            progress,
        ),
        "reward" => reward::run(
            &RewardJob {
                config: RewardConfig::preset(Preset::Tiny),
                data: data.join("rankings.jsonl"),
                demonstrations: None,
                base,
                out,
                saving,
            },
            progress,
        ),
        "dpo" => dpo::run(
            &DpoJob {
                config: DpoConfig::preset(Preset::Tiny),
                data: data.join("rankings.jsonl"),
                base,
                out,
                saving,
            },
            progress,
        ),
        _ => ppo::run(
            &PpoJob {
                config: PpoConfig {
                    iterations: 6,
                    ..PpoConfig::preset(Preset::Tiny)
                },
                prompts: data.join("prompts.jsonl"),
                texts: Some(data.join("texts.jsonl")),
                base,
                reward: data.join("judge/checkpoint"),
                gold: None,
                out,
                saving,
            },
            progress,
        ),
    }
}

/// What a run leaves, but for times.
fn left_by(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut left = BTreeMap::new();
    for entry in std::fs::read_dir(out.join("checkpoint")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        left.insert(name, std::fs::read(path).unwrap());
    }
    for name in ["metrics.jsonl", "samples.jsonl"] {
        let text = std::fs::read_to_string(out.join(name)).unwrap();
        for (n, line) in text.lines().enumerate() {
            let mut line: Value = serde_json::from_str(line).unwrap();
            for name in ["time", "time/tokens_per_second"] {
                line.as_object_mut().unwrap().remove(name);
            }
            left.insert(format!("{name} {n}"), line.to_string().into_bytes());
        }
    }
    left
}

fn savepoints(out: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(out.join("savepoints"));
    let paths = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    paths.collect()
}

/// When the disk fills up, and how much still fits.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
enum Moment {
    /// Nothing can be written from the start.
    Start,
    /// The figures of the next step, the third or fourth, do not fit.
    Figures,
    /// Figures fit, the third savepoint does not.
    Savepoint,
    /// The checkpoint does not fit.
    Checkpoint,
}

impl Moment {
    fn is_at(self, event: &Event) -> bool {
        match (self, event) {
            (Self::Figures, Event::Phase { name, step, .. }) => name == "training" && *step == 3,
            (Self::Savepoint, Event::Metrics { step, .. }) => *step == 3,
            (Self::Checkpoint, Event::Phase { name, .. }) => name == "writing",
            _ => false,
        }
    }
}

/// Lets no file grow beyond a length from a moment on.
struct Limit {
    moment: Moment,
    out: PathBuf,
}

fn let_no_file_grow_beyond(length: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, length, hard).unwrap();
}

impl Progress for Limit {
    fn record(&mut self, event: Event) {
        if self.moment.is_at(&event) {
            let_no_file_grow_beyond(match self.moment {
                // A line of figures is cut in its middle.
                Moment::Figures => {
                    let data = std::fs::metadata(self.out.join("metrics.jsonl"));
                    data.unwrap().len() + 30
                }
                _ => 20_000,
            });
        }
    }
}

/// The child: runs under a limit and says how it ended.
fn run_under_limit(plan: &str) {
    let (kind, data, out, moment): (String, PathBuf, PathBuf, Moment) =
        serde_json::from_str(plan).unwrap();
    if moment == Moment::Start {
        let_no_file_grow_beyond(0);
    }
    let mut limit = Limit {
        moment,
        out: out.clone(),
    };
    let said = match run(&kind, &data, &out, false, &mut limit) {
        Ok(_) => "it ended well".to_owned(),
        Err(error) => error.to_string(),
    };
    // Not to a file: it could not be written there.
    eprintln!("LAST WORDS: {said}");
}

fn last_words(kind: &str, data: &Path, out: &Path, moment: Moment) -> String {
    let plan = json!([kind, data, out, moment]).to_string();
    // A program that writes beyond the limit is killed by SIGXFSZ unless it ignores it, as one
    // does that the shell has told to.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "a_disk_that_fills_up_ends_a_run_that_goes_on_later",
            "--exact",
        ])
        .arg("--nocapture")
        .env(PLAN, plan)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let mut lines = said.lines();
    match lines.find_map(|line| line.split("LAST WORDS: ").nth(1)) {
        Some(words) => words.to_owned(),
        None => panic!("{kind} {moment:?}: {} {said}", output.status),
    }
}

fn prepared() -> Place {
    let place = Place::new();
    place.trained_reward("judge");
    place
}

/// What must hold after the disk was full, and that the run goes on.
fn assert_goes_on(
    kind: &str,
    data: &Path,
    out: &Path,
    moment: Moment,
    said: &str,
    straight: &Path,
) {
    let file = match moment {
        Moment::Start => "config.json",
        Moment::Figures => "metrics.jsonl|events.out.tfevents|samples.jsonl",
        Moment::Savepoint => "tensors.safetensors",
        Moment::Checkpoint => "model.safetensors",
    };
    let is_named = file.split('|').any(|file| said.contains(file));
    let context = format!("{kind} {moment:?}: {said}");
    assert!(
        is_named && said.contains(&out.display().to_string()),
        "{context}"
    );
    let is_said = said.contains("File too large") || said.contains("No space left");
    assert!(is_said && !said.contains('\n'), "{context}");
    assert!(!out.join("checkpoint").exists(), "{context}");
    let kept = savepoints(out);
    let wanted = if moment == Moment::Start { 0 } else { 2 };
    assert_eq!(kept.len(), wanted, "{context}: {kept:?}");
    for path in kept {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            name.parse::<usize>().is_ok(),
            "{context}: {name} is left over"
        );
    }
    run(kind, data, out, true, &mut trainer::progress::Silent).unwrap();
    assert!(left_by(out) == left_by(straight), "{context}");
}

/// Item 55 of the checklist, on a full disk.
#[test]
fn a_disk_that_fills_up_ends_a_run_that_goes_on_later() {
    if let Ok(plan) = std::env::var(PLAN) {
        return run_under_limit(&plan);
    }
    let _alone = alone();
    let place = prepared();
    let data = place.path("");
    for kind in KINDS {
        let straight = place.path(&format!("{kind} straight"));
        run(
            kind,
            &data,
            &straight,
            false,
            &mut trainer::progress::Silent,
        )
        .unwrap();
        for moment in [
            Moment::Start,
            Moment::Figures,
            Moment::Savepoint,
            Moment::Checkpoint,
        ] {
            let out = place.path(&format!("{kind} {moment:?}"));
            let said = last_words(kind, &data, &out, moment);
            assert_goes_on(kind, &data, &out, moment, &said, &straight);
        }
    }
}

/// A disk of its own in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: PathBuf) -> Option<Self> {
        std::fs::create_dir(&place).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
        let output = command.arg(&place).output().ok()?;
        match output.status.success() {
            true => Some(Self(place)),
            false => {
                println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "umount failed");
    }
}

/// Fills the disk at a moment, but for so many bytes.
struct Filler {
    moment: Moment,
    ballast: PathBuf,
}

impl Progress for Filler {
    fn record(&mut self, event: Event) {
        if !self.moment.is_at(&event) {
            return;
        }
        let mut ballast = vec![0_u8; 4 << 20];
        while std::fs::write(&self.ballast, &ballast).is_err() {
            ballast.truncate(ballast.len() - 4096);
        }
        if self.moment != Moment::Figures {
            ballast.truncate(ballast.len().saturating_sub(12 * 4096));
            std::fs::write(&self.ballast, &ballast).unwrap();
        }
    }
}

#[test]
fn so_does_a_disk_that_is_really_full() {
    let _alone = alone();
    let place = prepared();
    let data = place.path("");
    let Some(disk) = SmallDisk::mount(place.path("disk")) else {
        println!("a real disk needs the right to mount one; the limit on files stands for it");
        return;
    };
    for kind in KINDS {
        let straight = place.path(&format!("{kind} straight"));
        run(
            kind,
            &data,
            &straight,
            false,
            &mut trainer::progress::Silent,
        )
        .unwrap();
        for moment in [Moment::Savepoint, Moment::Checkpoint] {
            let out = disk.0.join(format!("{kind} {moment:?}"));
            let ballast = disk.0.join("ballast");
            let mut filler = Filler {
                moment,
                ballast: ballast.clone(),
            };
            let error = run(kind, &data, &out, false, &mut filler).unwrap_err();
            std::fs::remove_file(ballast).unwrap();
            let said = error.to_string();
            assert!(said.contains("No space left"), "{said}");
            assert_goes_on(kind, &data, &out, moment, &said, &straight);
            std::fs::remove_dir_all(out).unwrap();
        }
    }
}
