//! A run that is stopped and goes on makes what it would have made: the same weights to the bit,
//! and the same figures.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod place;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::path::Path;
use std::time::Duration;

use place::{Place, weights};
use serde_json::Value;
use tiny::Kept;
use trainer::config::PpoConfig;
use trainer::error::{Result, TrainerError};
use trainer::kl::KlControl;
use trainer::progress::{Event, Progress};
use trainer::savepoint::SavePolicy;
use trainer::sft::Outcome;
use trainer::{dpo, ppo, reward, sft};

/// A savepoint after every step.
const EACH_STEP: SavePolicy = SavePolicy {
    every: Some(Duration::ZERO),
    resume: false,
};

const RESUME: SavePolicy = SavePolicy {
    every: Some(Duration::ZERO),
    resume: true,
};

/// The figures of a run by step, without the time.
fn figures(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("time");
            line
        })
        .collect()
}

/// Stops a run after each so many events, enough to get from one savepoint to the next, resumes it
/// until it ends, and holds what it made against a run that was never stopped.
fn assert_resumes(
    place: &Place,
    stops: [usize; 2],
    run: &dyn Fn(&str, SavePolicy, &mut dyn Progress) -> Result<Outcome>,
) {
    let straight = run("straight", EACH_STEP, &mut Kept::default()).unwrap();
    for events in stops {
        let out = format!("stopped-{events}");
        let mut policy = EACH_STEP;
        let mut n_stops = 0;
        let ended = loop {
            let mut progress = Kept {
                cancel_at: Some(events),
                ..Kept::default()
            };
            match run(&out, policy, &mut progress) {
                Ok(ended) => break ended,
                Err(TrainerError::Cancelled) => n_stops += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(n_stops < 200, "the run makes no progress");
            policy = RESUME;
        };
        assert!(n_stops > 0, "the run was never stopped");
        assert_eq!(
            weights(&ended.checkpoint),
            weights(&straight.checkpoint),
            "stopped {n_stops} times"
        );
        assert_eq!(ended.summary, straight.summary);
        let out = place.path(&out);
        assert_eq!(figures(&out), figures(&place.path("straight")));
        assert!(!out.join("savepoints").exists(), "savepoints are left over");
    }
}

#[test]
fn fine_tuning_goes_on_where_it_stopped() {
    let place = Place::new();
    assert_resumes(&place, [18, 31], &|out, saving, progress| {
        let mut job = place.sft(out);
        job.saving = saving;
        sft::run(&job, progress)
    });
}

#[test]
fn a_reward_model_goes_on_where_it_stopped() {
    let place = Place::new();
    assert_resumes(&place, [18, 31], &|out, saving, progress| {
        let mut job = place.reward(out);
        job.saving = saving;
        reward::run(&job, progress)
    });
}

/// With frozen layers, whose output is kept, and after a cross-validation.
#[test]
fn so_does_one_that_trains_its_upper_layers_after_cross_validation() {
    let place = Place::new();
    assert_resumes(&place, [70, 90], &|out, saving, progress| {
        let mut job = place.reward(out);
        job.config.train_layers = Some(1);
        job.config.cross_validation_folds = 2;
        job.saving = saving;
        reward::run(&job, progress)
    });
}

/// Item 55 of the checklist: with what the reference said, which a policy that has moved could not tell again.
#[test]
fn direct_preference_optimisation_goes_on_where_it_stopped() {
    let place = Place::new();
    assert_resumes(&place, [33, 41], &|out, saving, progress| {
        let mut job = place.dpo(out);
        job.saving = saving;
        dpo::run(&job, progress)
    });
}

/// With frozen layers, whose output is kept, and so asked for again each time.
#[test]
fn so_does_direct_preference_optimisation_of_the_upper_layers() {
    let place = Place::new();
    assert_resumes(&place, [52, 67], &|out, saving, progress| {
        let mut job = place.dpo(out);
        job.config.train_layers = Some(1);
        job.saving = saving;
        dpo::run(&job, progress)
    });
}

/// With everything that moves: both optimisers, averages, an adaptive KL weight, texts in turn.
#[test]
fn ppo_goes_on_where_it_stopped() {
    let place = Place::new();
    let judge = place.trained_reward("judge");
    assert_resumes(&place, [28, 33], &|out, saving, progress| {
        let mut job = place.ppo(&judge, out);
        job.config = PpoConfig {
            iterations: 9,
            // Some prompts of a pass are left over at each stop.
            batch_episodes: 10,
            ema_decay: 0.9,
            kl_control: KlControl::Adaptive {
                target: 0.5,
                horizon: 50.0,
            },
            ..job.config
        };
        job.saving = saving;
        ppo::run(&job, progress)
    });
}

/// An SFT run that was stopped in the middle, with savepoints behind it.
fn stopped(place: &Place, out: &str) {
    let mut job = place.sft(out);
    job.saving = EACH_STEP;
    let mut progress = Kept {
        cancel_at: Some(30),
        ..Kept::default()
    };
    let error = sft::run(&job, &mut progress).unwrap_err();
    assert!(matches!(error, TrainerError::Cancelled), "{error}");
    let n = std::fs::read_dir(place.path(out).join("savepoints")).unwrap();
    assert_eq!(n.count(), 2, "the newest and the one before it");
}

fn newest(place: &Place, out: &str) -> std::path::PathBuf {
    let folder = std::fs::read_dir(place.path(out).join("savepoints")).unwrap();
    folder.map(|entry| entry.unwrap().path()).max().unwrap()
}

#[test]
fn a_damaged_savepoint_is_passed_over_for_the_one_before_it() {
    let place = Place::new();
    let straight = sft::run(&place.sft("straight"), &mut Kept::default()).unwrap();
    for file in ["tensors.safetensors", "state.json"] {
        let out = format!("damaged-{file}");
        stopped(&place, &out);
        let path = newest(&place, &out).join(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        // What a program leaves behind that was killed while it wrote one.
        let torn = place.path(&out).join("savepoints/.writing-x");
        std::fs::create_dir(&torn).unwrap();
        std::fs::write(torn.join("tensors.safetensors"), "half").unwrap();

        let mut job = place.sft(&out);
        job.saving = RESUME;
        // Stopped again before it gets far: what was damaged is no longer in the way.
        let mut first = Kept {
            cancel_at: Some(9),
            ..Kept::default()
        };
        sft::run(&job, &mut first).unwrap_err();
        let mut second = Kept::default();
        let ended = sft::run(&job, &mut second).unwrap();
        assert_eq!(weights(&ended.checkpoint), weights(&straight.checkpoint));
        let says = |progress: &Kept, words: &str| {
            progress
                .events
                .iter()
                .any(|event| matches!(event, Event::Log { message } if message.contains(words)))
        };
        assert!(says(&first, "damaged savepoint") && !says(&second, "damaged savepoint"));
        for life in [&first, &second] {
            assert!(says(life, "going on after step"));
        }
    }
}

/// A worker that was given up may still be at work.
#[test]
fn two_programs_do_not_work_in_one_folder() {
    let place = Place::new();
    stopped(&place, "run");
    let lock = std::fs::File::open(place.path("run/run.lock")).unwrap();
    lock.lock().unwrap();
    let mut job = place.sft("run");
    job.saving = RESUME;
    let error = sft::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("another program is working on"), "{error}");
    drop(lock);
    sft::run(&job, &mut Kept::default()).unwrap();
}

#[test]
fn another_runs_savepoint_and_an_ended_run_are_refused_in_a_sentence() {
    let place = Place::new();
    stopped(&place, "run");
    let mut job = place.sft("run");
    let error = sft::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("or resume the run"), "{error}");
    job.saving = RESUME;
    job.config.optimiser.learning_rate *= 2.0;
    let error = sft::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("other settings, data or models"), "{error}");
    job = place.sft("run");
    job.saving = RESUME;
    sft::run(&job, &mut Kept::default()).unwrap();
    let error = sft::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("a run that has ended"), "{error}");
}
