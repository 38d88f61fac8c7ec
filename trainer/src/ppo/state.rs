//! What moves during a PPO run, kept in savepoints.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::Learner;
use super::evaluation::Evaluation;
use super::order::PromptOrder;
use super::watch::Batch;
use crate::error::{Result, TrainerError};
use crate::optim::{set_values, values};
use crate::savepoint::Savepoint;

/// What of a run is no tensor, at the end of an iteration.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct State {
    /// Iterations that are done.
    pub(super) n_done: usize,
    /// The place among the prompts.
    pub(super) order: PromptOrder,
    pub(super) kl_coefficient: f64,
    pub(super) next_text: usize,
    /// What is remembered of each batch.
    pub(super) trail: Vec<Batch>,
    /// The evaluation before training.
    pub(super) before: Evaluation,
    /// Loss on the texts kept out, before training.
    pub(super) text_loss_before: Option<f64>,
}

/// Weights that a run can go back to.
pub(super) struct Good {
    policy: BTreeMap<String, Tensor>,
    average: Option<BTreeMap<String, Tensor>>,
}

impl Learner<'_> {
    /// Keeps the policy as it is now. The average is replaced at each step, so what it was stays by
    /// itself; the weights are changed in place.
    pub(super) fn keep(&self) -> Result<Good> {
        let mut policy = values(self.models.policy.weights().variables());
        for tensor in policy.values_mut() {
            *tensor = tensor.copy()?;
        }
        let average = self.average.as_ref();
        Ok(Good {
            policy,
            average: average.map(|average| average.values().clone()),
        })
    }

    /// Takes back whatever the policy has learnt since.
    pub(super) fn go_back(&mut self, good: &Good) -> Result<()> {
        set_values(self.models.policy.weights().variables(), &good.policy)?;
        if let (Some(average), Some(values)) = (&mut self.average, &good.average) {
            average.restore(values)?;
        }
        Ok(())
    }

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
        if state.n_done != point.step || !state.order.is_within(n) {
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
