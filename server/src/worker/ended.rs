//! Runs that trained to their end although nobody wrote that down: Postgres was away, or the worker
//! was killed after its last step. Their checkpoint is whole, so it is taken as it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trainer::checkpoint::{Lineage, read_lineage, sha256, sha256_of_weights};
use trainer::progress::{Event, Progress};
use trainer::savepoint::Savepoints;
use trainer::sft::Outcome;
use trainer::{Result, TrainerError};

use crate::worker::train::{TrainingJob, settings};

/// What a run that is to go on made already; none where it has no checkpoint yet, or is to do
/// steps again.
///
/// # Errors
/// A sentence when the checkpoint is not this run's, or is damaged.
pub fn find(job: &TrainingJob, progress: &mut dyn Progress) -> Result<Option<Outcome>> {
    let place = job.out.join("checkpoint");
    if !job.saving.resume || job.saving.from.is_some() || !place.exists() {
        return Ok(None);
    }
    let refuse = |message: &str| Err(TrainerError::checkpoint(&place, message));
    let Some(lineage) = read_lineage(&place)? else {
        return refuse("stands where this run's would, and does not say what made it");
    };
    if !has_settings(job, &lineage) || !is_made_of(job, &lineage)? {
        return refuse("was made with other settings, data or models than this run's");
    }
    if !lineage.weights.is_empty() && sha256_of_weights(&place)? != lineage.weights {
        return refuse("is damaged: its weights are not those that were written");
    }
    progress.log("the run had trained to its end: its checkpoint is taken as it is".to_owned());
    tell_report(&job.out.join("report.json"), progress)?;
    Savepoints::new(&job.out, String::new(), job.saving).clear()?;
    progress.record(Event::Checkpoint {
        path: place.clone(),
    });
    Ok(Some(Outcome {
        checkpoint: place,
        summary: lineage.summary,
    }))
}

/// Whether both have the same settings, as this version of the program reads them: an older one may
/// have written fewer.
fn has_settings(job: &TrainingJob, lineage: &Lineage) -> bool {
    let made_with = TrainingJob {
        config: lineage.config.clone(),
        ..job.clone()
    };
    match (settings(job), settings(&made_with)) {
        (Ok(own), Ok(other)) => own == other,
        _ => false,
    }
}

/// Whether all that the checkpoint was made of belongs to the job.
fn is_made_of(job: &TrainingJob, lineage: &Lineage) -> Result<bool> {
    let files = [
        Some(&job.data),
        job.texts.as_ref(),
        job.demonstrations.as_ref(),
    ];
    let folders = [Some(&job.base), job.reward.as_ref(), job.gold.as_ref()];
    let files = hashes(&files, sha256)?;
    let weights = hashes(&folders, sha256_of_weights)?;
    let is_all = lineage.data.values().all(|hash| files.contains(hash))
        && lineage.parents.values().all(|hash| weights.contains(hash));
    Ok(is_all && !lineage.data.is_empty() && !lineage.parents.is_empty())
}

fn hashes(
    paths: &[Option<&PathBuf>],
    hash: impl Fn(&Path) -> Result<String>,
) -> Result<BTreeSet<String>> {
    paths.iter().flatten().map(|path| hash(path)).collect()
}

/// Tells the report on the model again, where the run made one: nobody may have heard it.
fn tell_report(path: &Path, progress: &mut dyn Progress) -> Result<()> {
    let wrong = |message: String| TrainerError::checkpoint(path, message);
    if !path.is_file() {
        return Ok(());
    }
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let data = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    progress.record(Event::Report { data });
    Ok(())
}
