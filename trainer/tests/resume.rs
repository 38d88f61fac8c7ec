//! A run that is stopped and goes on makes what it would have made: the same weights to the bit,
//! and the same figures.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod place;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use place::{Place, rankings, weights};
use serde_json::{Value, json};
use tiny::{Kept, write_lines};
use trainer::advantage::AdvantageWhitening;
use trainer::config::{EnsembleScore, Keep, KeepPolicy, Learn, LoraConfig, PpoConfig, SftConfig};
use trainer::error::{Result, TrainerError};
use trainer::kl::{KlControl, KlEstimator};
use trainer::ppo::Gold;
use trainer::progress::{Event, Progress};
use trainer::records::Prompt;
use trainer::savepoint::{KEPT, SavePolicy};
use trainer::sft::Outcome;
use trainer::{dpo, ppo, reward, sft};

/// A savepoint after every step.
const EACH_STEP: SavePolicy = SavePolicy {
    every: Some(Duration::ZERO),
    keep: KEPT,
    resume: false,
    from: None,
};

const RESUME: SavePolicy = SavePolicy {
    resume: true,
    ..EACH_STEP
};

/// The figures of a run by step, without the time.
fn figures(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            for name in ["time", "time/tokens_per_second"] {
                line.as_object_mut().unwrap().remove(name);
            }
            line
        })
        .collect()
}

/// The final figures, without what the machine took.
fn results(outcome: &Outcome) -> BTreeMap<String, f64> {
    let mut summary = outcome.summary.clone();
    assert!(summary.remove("memory_estimate_gib").unwrap() > 0.0);
    summary.remove("memory_peak_gib");
    summary
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
        for beside in ["adapter/adapter_model.safetensors", "members.safetensors"] {
            let read = |checkpoint: &Path| std::fs::read(checkpoint.join(beside)).ok();
            assert_eq!(read(&ended.checkpoint), read(&straight.checkpoint));
        }
        assert_eq!(results(&ended), results(&straight));
        let out = place.path(&out);
        let report = |folder: &Path| std::fs::read_to_string(folder.join("report.json")).ok();
        assert_eq!(report(&out), report(&place.path("straight")));
        assert_eq!(figures(&out), figures(&place.path("straight")));
        let samples =
            |folder: &Path| std::fs::read_to_string(folder.join("samples.jsonl")).unwrap();
        assert_eq!(samples(&out), samples(&place.path("straight")));
        assert!(!out.join("savepoints").exists(), "savepoints are left over");
    }
}

#[test]
fn fine_tuning_goes_on_where_it_stopped() {
    let place = Place::new();
    assert_resumes(&place, [14, 27], &|out, saving, progress| {
        let mut job = place.sft(out);
        job.saving = saving;
        sft::run(&job, progress)
    });
}

/// With everything that moves: dropout, packed rows, texts in turn, figures of each epoch, and the
/// weights of the best.
#[test]
fn so_does_fine_tuning_as_instructgpt_has_it() {
    for keep in [Keep::BestLoss, Keep::BestReward] {
        let place = Place::new();
        let judge = place.trained_reward("judge");
        assert_resumes(&place, [35, 60], &|out, saving, progress| {
            let mut job = place.sft(out);
            // Nothing to learn, so that it is not the last epoch that is kept.
            job.data = place.path("noise.jsonl");
            job.texts = Some(place.path("texts.jsonl"));
            job.reward = Some(judge.clone());
            job.config = SftConfig {
                epochs: 10,
                held_out_share: 0.3,
                dropout: 0.2,
                pack_tokens: Some(24),
                pretraining_tokens: 8,
                keep,
                ..job.config
            };
            job.config.optimiser.learning_rate = 1e-2;
            job.saving = saving;
            let ended = sft::run(&job, progress)?;
            assert!(ended.summary["kept_epoch"] < 10.0, "{:?}", ended.summary);
            Ok(ended)
        });
    }
}

#[test]
fn pretraining_goes_on_where_it_stopped() {
    let place = Place::new();
    assert_resumes(&place, [18, 31], &|out, saving, progress| {
        let mut job = place.sft(out);
        job.config.learn = Learn::Everything;
        job.config.max_tokens = 8;
        job.data = place.path("texts.jsonl");
        job.saving = saving;
        sft::run(&job, progress)
    });
}

#[test]
fn a_reward_model_goes_on_where_it_stopped() {
    let place = Place::new();
    assert_resumes(&place, [13, 26], &|out, saving, progress| {
        let mut job = place.reward(out);
        job.saving = saving;
        reward::run(&job, progress)
    });
}

/// With frozen layers, whose output is kept, and after a cross-validation and folds by labeler,
/// whose findings stand in the report.
#[test]
fn so_does_one_that_trains_its_upper_layers_after_cross_validation() {
    let place = Place::new();
    let mut lines = rankings(60);
    for (index, line) in lines.iter_mut().enumerate() {
        line["labeler"] = json!(format!("labeler {}", index % 4));
    }
    write_lines(&place.path("rankings.jsonl"), lines);
    assert_resumes(&place, [70, 85], &|out, saving, progress| {
        let mut job = place.reward(out);
        job.config.train_layers = Some(1);
        job.config.cross_validation_folds = 2;
        job.config.labeler_folds = 2;
        job.saving = saving;
        reward::run(&job, progress)
    });
}

/// Asks the run to stop once an event is there that `stops` says.
struct StopAt<'a> {
    stops: &'a dyn Fn(&Event) -> bool,
    is_there: bool,
    /// Events so far.
    events: Vec<Event>,
}

impl Progress for StopAt<'_> {
    fn record(&mut self, event: Event) {
        self.is_there |= (self.stops)(&event);
        self.events.push(event);
    }

    fn is_cancelled(&self) -> bool {
        self.is_there
    }
}

/// At an epoch's end, where figures were told and no savepoint is due, and while the scores are
/// shifted: nothing is told twice, and no step is lost.
#[test]
fn so_does_one_that_is_stopped_at_an_epochs_end_or_while_it_writes() {
    const AT_A_STOP: SavePolicy = SavePolicy {
        every: None,
        ..EACH_STEP
    };
    let place = Place::new();
    let run = |out: &str, resume: bool, progress: &mut dyn Progress| {
        let mut job = place.reward(out);
        job.config.train_layers = Some(1);
        job.config.epochs = 3;
        job.saving = SavePolicy {
            resume,
            ..AT_A_STOP
        };
        reward::run(&job, progress)
    };
    let straight = run("straight", false, &mut Kept::default()).unwrap();
    let told = figures(&place.path("straight"));
    let measured: Vec<u64> = told
        .iter()
        .filter(|line| line.get("held_out/accuracy").is_some())
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(measured.len(), 4, "{told:?}");
    let stop_after = |at: u64| {
        move |event: &Event| {
            matches!(event, Event::Metrics { step, values }
                if *step == at && values.contains_key("held_out/accuracy"))
        }
    };
    let is_writing =
        |event: &Event| matches!(event, Event::Phase { name, .. } if name == "writing");
    let is_report = |event: &Event| matches!(event, Event::Report { .. });
    let (first, second, last) = (
        stop_after(measured[1]),
        stop_after(measured[2]),
        stop_after(measured[3]),
    );
    let moments: [&dyn Fn(&Event) -> bool; 5] = [&first, &second, &last, &is_writing, &is_report];
    for (index, stops) in moments.into_iter().enumerate() {
        let out = format!("stopped-{index}");
        let mut progress = StopAt {
            stops,
            is_there: false,
            events: Vec::new(),
        };
        let error = run(&out, false, &mut progress).unwrap_err();
        assert!(matches!(error, TrainerError::Cancelled), "{index}: {error}");
        let kept = std::fs::read_dir(place.path(&out).join("savepoints"));
        assert_eq!(
            kept.map_or(0, Iterator::count),
            1,
            "{index}: no savepoint was kept"
        );
        let mut rest = Kept::default();
        let ended = run(&out, true, &mut rest).unwrap();
        assert_eq!(weights(&ended.checkpoint), weights(&straight.checkpoint));
        assert_eq!(results(&ended), results(&straight), "{index}");
        assert_eq!(figures(&place.path(&out)), told, "{index}");
        let trained = rest.metric("train/loss").len() as u64;
        let n_steps = measured[3];
        let left = [n_steps - measured[1], n_steps - measured[2], 0, 0, 0];
        assert_eq!(trained, left[index], "{index}: steps were done again");
    }
}

/// Item 55 of the checklist: with what the reference said, which a policy that has moved could not
/// tell again.
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

/// With everything that moves: both optimisers, averages, an adaptive KL weight, texts in turn, what
/// is remembered of each batch.
#[test]
fn ppo_goes_on_where_it_stopped() {
    let place = Place::new();
    let judge = place.trained_reward("judge");
    assert_resumes(&place, [19, 24], &|out, saving, progress| {
        let mut job = place.ppo(&judge, out);
        job.config = PpoConfig {
            iterations: 9,
            // Some prompts of a pass are left over at each stop.
            batch_episodes: 10,
            samples_per_prompt: 2,
            ema_decay: 0.9,
            kl_estimator: KlEstimator::K3,
            whiten_advantages: AdvantageWhitening::Minibatch,
            keep: KeepPolicy::BestGold,
            keep_every: 2,
            evaluation_prompts: 4,
            policy_waits: 1,
            kl_control: KlControl::Adaptive {
                target: 0.5,
                horizon: 50.0,
            },
            ..job.config
        };
        job.config.policy_optimiser.learning_rate = 4e-3;
        job.gold = Some(Gold::Utility(Box::new(|_: &Prompt, text: &str| {
            text.split_whitespace()
                .filter(|word| *word == "good")
                .count() as f64
        })));
        job.saving = saving;
        let made = ppo::run(&job, progress)?;
        // Fitted to every batch, those before a stop included.
        assert!(
            made.summary.contains_key("gold_alpha"),
            "{:?}",
            made.summary
        );
        Ok(made)
    });
}

/// Asks the run to stop once it has looked so often whether it should: between any two steps, and
/// within them.
struct Impatient {
    kept: Kept,
    looks: Cell<usize>,
    most: usize,
}

impl Progress for Impatient {
    fn record(&mut self, event: Event) {
        self.kept.record(event);
    }

    fn is_cancelled(&self) -> bool {
        self.looks.set(self.looks.get() + 1);
        self.looks.get() > self.most
    }
}

/// Without a savepoint but those at stops, which fall between the steps of an iteration, while it
/// draws and while it answers at the end. By adapters too, with the lowest score of an ensemble, whose
/// own adapter lies below what PPO trains.
#[test]
fn ppo_goes_on_within_an_iteration() {
    let place = Place::new();
    let single = place.trained_reward("judge");
    let mut ensemble = place.reward("ensemble");
    ensemble.config.lora = lora();
    ensemble.config.members = 2;
    let ensemble = reward::run(&ensemble, &mut Kept::default())
        .unwrap()
        .checkpoint;
    let only_at_stops = SavePolicy {
        every: None,
        ..EACH_STEP
    };
    let cases = [
        (None, None),
        (Some(1), None),
        (None, lora()),
        (Some(1), lora()),
    ];
    for (train_layers, lora) in cases {
        let name = |out: &str| format!("{out}-{train_layers:?}-{}", lora.is_some());
        let run = |out: &str, resume: bool, progress: &mut dyn Progress| {
            let judge = if lora.is_some() { &ensemble } else { &single };
            let mut job = place.ppo(judge, &name(out));
            if lora.is_some() {
                job.config.ensemble = EnsembleScore::Worst;
            }
            job.config = PpoConfig {
                iterations: 3,
                batch_episodes: 10,
                minibatches: 3,
                inner_epochs: 2,
                ema_decay: 0.9,
                whiten_advantages: AdvantageWhitening::Minibatch,
                train_layers,
                lora: lora.clone(),
                micro_rows: Some(2),
                ..job.config
            };
            job.saving = SavePolicy {
                resume,
                ..only_at_stops
            };
            ppo::run(&job, progress)
        };
        let straight = run("whole", false, &mut Kept::default()).unwrap();
        let (mut n_stops, mut n_within) = (0, 0);
        let folder = place.path(&name("parts"));
        let ended = loop {
            let mut progress = Impatient {
                kept: Kept::default(),
                looks: Cell::new(0),
                // Enough to draw a batch, and a little.
                most: 30 + n_stops % 7,
            };
            match run("parts", n_stops > 0, &mut progress) {
                Ok(ended) => break ended,
                Err(TrainerError::Cancelled) => n_stops += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(n_stops < 200, "the run makes no progress");
            let kept = std::fs::read_dir(folder.join("savepoints"));
            let names = kept
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().file_name());
            n_within += names
                .filter(|name| name.to_string_lossy().contains('-'))
                .count();
        };
        assert!(n_within > 2, "{n_stops} stops, none within an iteration");
        assert_eq!(weights(&ended.checkpoint), weights(&straight.checkpoint));
        let adapter = |checkpoint: &Path| {
            std::fs::read(checkpoint.join("adapter/adapter_model.safetensors")).ok()
        };
        assert_eq!(adapter(&ended.checkpoint), adapter(&straight.checkpoint));
        assert_eq!(adapter(&ended.checkpoint).is_some(), lora.is_some());
        assert_eq!(results(&ended), results(&straight));
        let whole = place.path(&name("whole"));
        assert_eq!(figures(&folder), figures(&whole));
    }
}

/// With micro-batches of their own sizes and recomputed activations, which a limit on memory chose.
#[test]
fn so_do_runs_that_were_fitted_to_a_limit() {
    let place = Place::new();
    assert_resumes(&place, [14, 27], &|out, saving, progress| {
        let mut job = place.sft(out);
        job.config.micro_rows = Some(3);
        job.config.recompute_activations = true;
        job.saving = saving;
        sft::run(&job, progress)
    });
    let place = Place::new();
    let gib = |prompts: usize| {
        let mut job = place.reward("judge");
        job.config.micro_prompts = Some(prompts);
        job.config.recompute_activations = true;
        reward::estimate(&job).unwrap().estimate.gib()
    };
    let between = (gib(1) + gib(4)) / 2.0;
    let fit = |out: &str| {
        let mut job = place.reward(out);
        job.config.recompute_activations = true;
        job.config.memory_limit_gib = Some(between);
        job
    };
    let plan = reward::estimate(&fit("judge")).unwrap();
    assert!(plan.recomputes && plan.prompts < 4);
    assert_resumes(&place, [13, 26], &|out, saving, progress| {
        let mut job = fit(out);
        job.saving = saving;
        reward::run(&job, progress)
    });
    let judge = place.path("straight").join("checkpoint");
    let place_of_dpo = Place::new();
    // Each ranking alone: the reference is asked sixty times before the first step.
    assert_resumes(&place_of_dpo, [90, 101], &|out, saving, progress| {
        let mut job = place_of_dpo.dpo(out);
        // Fewer than a ranking has.
        job.config.micro_rows = Some(3);
        job.config.recompute_activations = true;
        job.saving = saving;
        dpo::run(&job, progress)
    });
    let place_of_ppo = Place::new();
    assert_resumes(&place_of_ppo, [19, 24], &|out, saving, progress| {
        let mut job = place_of_ppo.ppo(&judge, out);
        job.config.iterations = 9;
        job.config.micro_rows = Some(3);
        job.config.recompute_activations = true;
        job.saving = saving;
        ppo::run(&job, progress)
    });
}

fn lora() -> Option<LoraConfig> {
    Some(LoraConfig {
        rank: 4,
        ..LoraConfig::default()
    })
}

/// Packed, with dropout, in blocks that run again.
#[test]
fn so_does_fine_tuning_by_an_adapter() {
    let place = Place::new();
    assert_resumes(&place, [14, 27], &|out, saving, progress| {
        let mut job = place.sft(out);
        job.config.lora = lora();
        job.config.dropout = 0.2;
        job.config.pack_tokens = Some(24);
        job.config.keep = Keep::BestLoss;
        job.config.recompute_activations = true;
        job.saving = saving;
        sft::run(&job, progress)
    });
}

/// An adapter on the upper layer under three heads, each with its own draw of the units, after a
/// cross-validation.
#[test]
fn so_does_an_ensemble_over_an_adapter() {
    let place = Place::new();
    assert_resumes(&place, [40, 55], &|out, saving, progress| {
        let mut job = place.reward(out);
        job.config.lora = lora();
        job.config.members = 3;
        job.config.train_layers = Some(1);
        job.config.cross_validation_folds = 2;
        job.saving = saving;
        reward::run(&job, progress)
    });
}

/// Over one base with the judge, an ensemble of which the lowest score counts.
#[test]
fn so_does_ppo_by_adapters() {
    let place = Place::new();
    let mut judge = place.reward("judge");
    judge.config.lora = lora();
    judge.config.members = 2;
    let judge = reward::run(&judge, &mut Kept::default())
        .unwrap()
        .checkpoint;
    assert_resumes(&place, [19, 24], &|out, saving, progress| {
        let mut job = place.ppo(&judge, out);
        job.config.lora = lora();
        job.config.ensemble = EnsembleScore::Worst;
        job.config.iterations = 6;
        job.config.ema_decay = 0.9;
        job.config.policy_waits = 1;
        job.config.reward_clip = 5.0;
        job.config.recompute_activations = true;
        job.gold = Some(Gold::Model(judge.clone()));
        job.saving = saving;
        ppo::run(&job, progress)
    });
}

/// As many savepoints stay as were asked for, and a run goes on from any of them.
#[test]
fn an_older_savepoint_that_was_kept_leads_to_the_same_end() {
    let place = Place::new();
    let straight = sft::run(&place.sft("straight"), &mut Kept::default()).unwrap();
    let mut job = place.sft("run");
    job.saving = SavePolicy {
        keep: 4,
        ..EACH_STEP
    };
    let mut progress = Kept {
        cancel_at: Some(26),
        ..Kept::default()
    };
    sft::run(&job, &mut progress).unwrap_err();
    let kept = || {
        let folder = std::fs::read_dir(place.path("run/savepoints")).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut steps: Vec<usize> = names.map(|name| name.parse().unwrap()).collect();
        steps.sort_unstable();
        steps
    };
    let steps = kept();
    assert_eq!(steps.len(), 4);
    job.saving = SavePolicy {
        from: Some(steps[3] + 1),
        ..RESUME
    };
    let error = sft::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("no savepoint of step"), "{error}");
    assert!(error.contains(&steps[0].to_string()), "{error}");
    assert_eq!(kept(), steps, "nothing goes for a step that is not there");
    job.saving.from = Some(steps[1]);
    let ended = sft::run(&job, &mut Kept::default()).unwrap();
    assert_eq!(weights(&ended.checkpoint), weights(&straight.checkpoint));
    assert_eq!(
        figures(&place.path("run")),
        figures(&place.path("straight"))
    );
}

/// An SFT run that was stopped in the middle, with savepoints behind it.
fn stopped(place: &Place, out: &str) {
    let mut job = place.sft(out);
    job.saving = EACH_STEP;
    let mut progress = Kept {
        cancel_at: Some(26),
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
            cancel_at: Some(4),
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
    // A base of the same weights that makes other tokens of the same text.
    let path = place.path("base/tokenizer_config.json");
    let template = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, template.replace("<user> ", "<user>")).unwrap();
    job = place.sft("run");
    job.saving = RESUME;
    let error = sft::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("other settings, data or models"), "{error}");
    std::fs::write(&path, template).unwrap();
    job = place.sft("run");
    job.saving = RESUME;
    sft::run(&job, &mut Kept::default()).unwrap();
    let error = sft::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("a run that has ended"), "{error}");
}
