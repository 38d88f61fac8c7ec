//! The report of a whole reward run, in its folder, in its checkpoint and on the model card.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::path::Path;

use place::{Place, rankings, weights};
use serde_json::{Value, json};
use tiny::{Kept, write_lines};
use trainer::progress::Event;
use trainer::reward::{self, Report, RewardJob, Source};

/// Two labelers rank each of 60 prompts alike, but for the last one, who says the contrary.
fn ranked_twice() -> Vec<Value> {
    let ranked = rankings(60).into_iter().enumerate();
    let twice = ranked.flat_map(|(index, line)| {
        [index % 4, (index + 1) % 4].map(|labeler| {
            let mut line = line.clone();
            line["labeler"] = json!(format!("labeler-{labeler}"));
            line["category"] = json!(["chat", "list"][index % 2]);
            if labeler == 3 {
                for completion in line["completions"].as_array_mut().unwrap() {
                    let rank = completion["rank"].as_u64().unwrap();
                    completion["rank"] = json!(5 - rank);
                }
            }
            line
        })
    });
    twice.collect()
}

fn job_on(place: &Place, out: &str, lines: Vec<Value>) -> RewardJob {
    let mut job = place.reward(out);
    job.data = write_lines(&place.path(&format!("{out}.jsonl")), lines);
    job
}

fn report_of(folder: &Path) -> Report {
    let text = std::fs::read_to_string(folder.join("report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Item 21 of the checklist.
#[test]
fn a_run_reports_on_its_model_in_its_folder_in_the_checkpoint_and_on_the_card() {
    let place = Place::new();
    let mut job = job_on(&place, "run", ranked_twice());
    job.config.cross_validation_folds = 3;
    let mut progress = Kept::default();
    let made = reward::run(&job, &mut progress).unwrap();
    let report = report_of(&job.out);
    assert_eq!(report, report_of(&made.checkpoint));
    let told = progress.events.iter().find_map(|event| match event {
        Event::Report { data } => Some(data.clone()),
        _ => None,
    });
    assert_eq!(
        serde_json::from_value::<Report>(told.unwrap()).unwrap(),
        report
    );

    // From all prompts but one that ties everything, and the same figures as the run's.
    assert_eq!(
        (report.source, report.n_rankings),
        (Source::CrossValidation, 118)
    );
    assert_eq!(
        report.accuracy.value,
        made.summary["cross_validated_accuracy"]
    );
    let length = made.summary["cross_validated_length_only"];
    assert_eq!((report.length_only.value, length), (0.5, 0.5));
    assert_eq!(
        report.over_length.value,
        made.summary["cross_validated_over_length"]
    );

    // Three labelers are learnt, the fourth is not.
    let by_labeler = &report.slices.labeler;
    let names: Vec<_> = by_labeler
        .iter()
        .map(|one| one.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["labeler-0", "labeler-1", "labeler-2", "labeler-3"]);
    for slice in by_labeler {
        let is_learnt = slice.accuracy.value > 0.7;
        let is_contrary = slice.accuracy.value < 0.3;
        assert_eq!(
            (is_learnt, is_contrary).1,
            slice.name.as_deref() == Some("labeler-3")
        );
        assert!(is_learnt || is_contrary, "{slice:?}");
        assert!(slice.accuracy.n_prompts >= 29, "{slice:?}");
    }
    let n: usize = report
        .slices
        .category
        .iter()
        .map(|one| one.accuracy.n_pairs)
        .sum();
    assert_eq!(
        (report.slices.category.len(), n),
        (2, report.accuracy.n_pairs)
    );
    assert_eq!(report.slices.completions[0].accuracy, report.accuracy);

    // Half of the prompts are ranked by the fourth and another one, who agree on nothing.
    let agreement = report.agreement.as_ref().unwrap();
    assert_eq!(
        (agreement.n_labelers, agreement.accuracy.n_prompts),
        (4, 59)
    );
    let share = agreement.accuracy.value;
    assert!((0.4..0.6).contains(&share), "{share}");
    assert_eq!(agreement.model, Some(report.accuracy));

    let calibration = &report.calibration;
    assert_eq!(calibration.bins.len(), 10);
    let n: usize = calibration
        .bins
        .iter()
        .map(|bin| bin.accuracy.n_pairs)
        .sum();
    assert_eq!(n, report.accuracy.n_pairs);
    assert!(
        calibration.scaled.unwrap().nll < calibration.raw.nll,
        "{calibration:?}"
    );
    assert_eq!(
        made.summary["temperature"],
        calibration.temperature.unwrap()
    );

    // All completions are of one length.
    assert_eq!(report.length.overall.pearson, None);
    assert_eq!(report.length.better_is_shorter, None);
    assert_eq!(report.length.near_in_length, Some(report.accuracy));
    assert_eq!(report.length.n_completions, 472);

    let card = std::fs::read_to_string(made.checkpoint.join("README.md")).unwrap();
    for line in [
        "## Calibration".to_owned(),
        format!(
            "- accuracy of models of the same settings in cross-validation, on prompts that each had not seen: {}",
            report.accuracy
        ),
        "| labeler | accuracy | 95 % interval | length alone | pairs | prompts |".to_owned(),
        format!("| labeler-3 | {:.3} |", by_labeler[3].accuracy.value),
        format!(
            "- agreement of 4 labelers with each other: {}",
            agreement.accuracy
        ),
    ] {
        assert!(card.contains(&line), "no {line:?} in {card}");
    }
}

/// Item 16 of the checklist: what the folds' models learn stays theirs.
#[test]
fn folds_by_labeler_tell_known_labelers_from_new_ones_and_leave_the_model_alone() {
    let place = Place::new();
    let mut straight = job_on(&place, "straight", ranked_twice());
    straight.config.epochs = 3;
    let mut job = job_on(&place, "folds", ranked_twice());
    job.config.epochs = 3;
    job.config.labeler_folds = 4;
    let (one, other) = (
        reward::run(&straight, &mut Kept::default()).unwrap(),
        reward::run(&job, &mut Kept::default()).unwrap(),
    );
    assert_eq!(weights(&one.checkpoint), weights(&other.checkpoint));
    assert_eq!(report_of(&straight.out).labeler_folds, None);

    let report = report_of(&job.out);
    assert_eq!(report.source, Source::HeldOut);
    assert_eq!(report.accuracy.value, other.summary["held_out_accuracy"]);
    let folds = report.labeler_folds.unwrap();
    assert_eq!((folds.folds.len(), folds.n_unnamed), (4, 0));
    for fold in &folds.folds {
        // Where the contrary one is held out, all others are learnt and only he is missed.
        let new = fold.held_out_labelers.unwrap().value;
        let is_contrary = fold.labelers == ["labeler-3"];
        assert_eq!(fold.labelers.len(), 1);
        assert!(if is_contrary { new < 0.3 } else { new > 0.7 }, "{fold:?}");
    }
    let (known, new) = (
        folds.training_labelers.unwrap(),
        folds.held_out_labelers.unwrap(),
    );
    assert_eq!((known.n, new.n), (4, 4));
    assert!(new.deviation > known.deviation, "{known:?} {new:?}");
    assert_eq!(other.summary["held_out_labelers_accuracy"], new.mean);
    let card = std::fs::read_to_string(other.checkpoint.join("README.md")).unwrap();
    let line = format!("- on labelers held out: {:.3} ± ", new.mean);
    assert!(card.contains(&line), "{card}");
}

#[test]
fn folds_by_labeler_need_two_labelers_and_leave_nothing_behind_without() {
    let place = Place::new();
    let mut job = job_on(&place, "nowhere", rankings(10));
    job.config.labeler_folds = 5;
    let error = reward::run(&job, &mut Kept::default()).unwrap_err();
    assert!(error.to_string().contains("labeler_folds"), "{error}");
    assert!(!job.out.exists());
}

/// One held-out ranking would give an interval of no width.
#[test]
fn one_held_out_prompt_has_no_interval_anywhere() {
    let place = Place::new();
    let job = job_on(&place, "run", rankings(2));
    let mut progress = Kept::default();
    let made = reward::run(&job, &mut progress).unwrap();
    let ends = |key: &String| key.ends_with("_low") || key.ends_with("_high");
    let keys: Vec<_> = made.summary.keys().filter(|key| ends(key)).collect();
    assert_eq!(keys, Vec::<&String>::new());
    assert!(progress.metric("held_out/accuracy_low").is_empty());
    assert_eq!(progress.metric("held_out/accuracy").len(), 3);
    let report = report_of(&job.out);
    assert_eq!(
        (report.accuracy.n_prompts, report.accuracy.interval),
        (1, None)
    );
    assert_eq!(
        (report.agreement, report.slices.labeler),
        (None, Vec::new())
    );
    assert_eq!(report.calibration.scaled, None);
    let card = std::fs::read_to_string(made.checkpoint.join("README.md")).unwrap();
    assert!(card.contains("(no interval) over 1 prompt"), "{card}");
}
