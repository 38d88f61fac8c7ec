//! What moves during a PPO run, kept in savepoints.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Learner;
use super::evaluation::Evaluation;
use crate::error::{Result, TrainerError};
use crate::optim::{set_values, values};
use crate::savepoint::Savepoint;

/// What of a run is no tensor, at the end of an iteration.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct State {
    /// Iterations that are done.
    pub(super) n_done: usize,
    /// Passes over the prompts that were begun.
    pub(super) epoch: u64,
    /// Prompts of this pass that are still to come.
    pub(super) order: Vec<usize>,
    pub(super) kl_coefficient: f64,
    pub(super) next_text: usize,
    /// Mean KL of the last batch, in nats.
    pub(super) kl_last: f64,
    /// The evaluation before training.
    pub(super) before: Evaluation,
    /// Loss on the texts kept out, before training.
    pub(super) text_loss_before: Option<f64>,
}

impl Learner<'_> {
    pub(super) fn savepoint(&self, state: &State) -> Result<Savepoint> {
        let mut point = Savepoint::new(state.n_done, state);
        point.put("policy", values(self.models.policy.weights().variables()));
        point.put(
            "value",
            values(self.models.value.trunk.weights().variables()),
        );
        point.put("policy_optimiser", self.policy_optimiser.state()?);
        point.put("value_optimiser", self.value_optimiser.state()?);
        if let Some(average) = &self.average {
            point.put("average", average.values().clone());
        }
        Ok(point)
    }

    pub(super) fn restore(&mut self, point: &Savepoint) -> Result<State> {
        let state: State = point.within(self.config.iterations)?.state_as()?;
        let n = self.written.len();
        if state.n_done != point.step || state.order.iter().any(|index| *index >= n) {
            let message = "names steps or prompts that the run does not have";
            return Err(TrainerError::checkpoint(Path::new("savepoint"), message));
        }
        let policy = self.models.policy.weights().variables();
        let value = self.models.value.trunk.weights().variables();
        set_values(policy, &point.group("policy"))?;
        set_values(value, &point.group("value"))?;
        self.policy_optimiser
            .restore(&point.group("policy_optimiser"), policy)?;
        self.value_optimiser
            .restore(&point.group("value_optimiser"), value)?;
        if let Some(average) = &mut self.average {
            average.restore(&point.group("average"))?;
        }
        self.kl_coefficient = state.kl_coefficient;
        // Only the place among the texts matters.
        self.next_text = state.next_text % self.texts.learnt.len().max(1);
        Ok(state)
    }
}
