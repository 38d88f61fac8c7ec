//! Which policy of a run becomes its checkpoint: where a setting asks for it, the one whose answers to
//! the evaluation prompts a second opinion scores highest. The reward model that is trained against
//! likes the last one best, whatever became of it.

use std::ops::Range;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::episode::mean;
use super::state::State;
use super::{Learner, PpoJob};
use crate::config::KeepPolicy;
use crate::error::{Result, TrainerError};
use crate::optim::{set_values, values};
use crate::progress::Progress;

/// Whose answers were best so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    /// Iterations that it had learnt from; 0 is the base.
    pub(super) iteration: usize,
    /// The second opinion's mean score of its answers.
    pub(super) gold: f64,
    /// Iterations after which it was last compared.
    pub(super) compared: usize,
}

/// Whether there is somebody to compare by.
pub(super) fn check(job: &PpoJob) -> Result<()> {
    match (job.config.keep, &job.gold) {
        (KeepPolicy::BestGold, None) => Err(TrainerError::Config {
            field: "keep".into(),
            message: "best_gold compares policies by a second opinion, and none is given"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

impl Learner<'_> {
    /// Compares the policy after `state.n_done` iterations with the best so far, where it is the turn.
    /// It is as it was afterwards.
    ///
    /// # Errors
    /// `Cancelled`, with nothing changed.
    pub(super) fn compare_in_turn(
        &mut self,
        prompts: &[Vec<u32>],
        evaluation: &Range<usize>,
        state: &mut State,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        match state.n_done.is_multiple_of(self.config.keep_every) {
            true => self.compare(prompts, evaluation, state, progress),
            false => Ok(()),
        }
    }

    /// The same, whether it is the turn or not.
    ///
    /// # Errors
    /// As [`Learner::compare_in_turn`].
    pub(super) fn compare(
        &mut self,
        prompts: &[Vec<u32>],
        evaluation: &Range<usize>,
        state: &mut State,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let n = state.n_done;
        if self.config.keep == KeepPolicy::Last || state.best.is_some_and(|best| best.compared >= n)
        {
            return Ok(());
        }
        let trained = match &self.average {
            None => None,
            Some(average) => {
                let trained = self.keep()?;
                average.adopt(self.models.policy.weights().variables())?;
                Some(trained)
            }
        };
        let found = self.worth(prompts, evaluation, progress);
        let is_better = |gold: &f64| state.best.is_none_or(|best| *gold > best.gold);
        if let Ok(gold) = found.as_ref().copied()
            && is_better(&gold)
        {
            self.best = Some(self.copy_of_policy()?);
            state.best = Some(Best {
                iteration: n,
                gold,
                compared: n,
            });
        }
        if let Some(trained) = &trained {
            self.go_back(trained)?;
        }
        found?;
        if let Some(best) = &mut state.best {
            best.compared = n;
        }
        Ok(())
    }

    /// What the second opinion makes of the policy's answers to the evaluation prompts, always with
    /// the same draws, which are not those that the run reports on: a policy that was only lucky in
    /// these is not in those.
    fn worth(
        &self,
        prompts: &[Vec<u32>],
        evaluation: &Range<usize>,
        progress: &mut dyn Progress,
    ) -> Result<f64> {
        let chosen: Vec<usize> = evaluation.clone().collect();
        progress.phase("comparing policies by the second opinion", 0, chosen.len());
        let mut episodes = self.sample(prompts, &chosen, "comparison", 0, progress)?;
        self.judge(&mut episodes, &chosen, progress)?;
        let golds: Option<Vec<f64>> = episodes.iter().map(|episode| episode.gold).collect();
        match golds.map(|golds| mean(golds.into_iter())) {
            Some(gold) if gold.is_finite() => Ok(gold),
            _ => Err(TrainerError::Config {
                field: "gold".into(),
                message: "gives a completion a score that is not finite".to_owned(),
            }),
        }
    }

    /// Takes the best policy as the one to keep, where one was chosen; says which.
    pub(super) fn adopt_best(&self, state: &State, progress: &mut dyn Progress) -> Result<()> {
        let (Some(values), Some(best)) = (&self.best, &state.best) else {
            return Ok(());
        };
        set_values(self.models.policy.weights().variables(), values)?;
        progress.log(format!(
            "kept is the policy after {} of {} iterations, whose answers the second opinion scores \
             highest: {:.4} (by other draws of the evaluation prompts than those reported on)",
            best.iteration, state.n_done, best.gold
        ));
        Ok(())
    }

    fn copy_of_policy(&self) -> Result<std::collections::BTreeMap<String, Tensor>> {
        let mut copy = values(self.models.policy.weights().variables());
        for tensor in copy.values_mut() {
            *tensor = tensor.copy()?;
        }
        Ok(copy)
    }
}
