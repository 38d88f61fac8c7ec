//! What moves during a PPO run, kept in savepoints.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::Learner;
use super::best::Best;
use super::evaluation::Evaluation;
use super::learn::Learning;
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
    /// Whose answers a second opinion likes best so far, where that is asked for.
    #[serde(default)]
    pub(super) best: Option<Best>,
    /// The iteration after those, where the run was stopped while it learnt.
    #[serde(default)]
    pub(super) learning: Option<Learning>,
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

    /// The end of an iteration.
    pub(super) fn savepoint(&self, state: &State) -> Result<Savepoint> {
        // A batch that was drawn and not learnt from is drawn again.
        let mut state = state.clone();
        state.trail.truncate(state.n_done);
        self.point(Savepoint::new(state.n_done, &state))
    }

    /// The middle of one, with what it would go back to.
    pub(super) fn savepoint_within(
        &self,
        state: &State,
        learning: &Learning,
        good: &Good,
    ) -> Result<Savepoint> {
        let state = State {
            learning: Some(learning.clone()),
            kl_coefficient: self.kl_coefficient,
            next_text: self.next_text,
            ..state.clone()
        };
        let mut point = self.point(Savepoint::new(state.n_done, &state))?;
        point.part = learning.n_steps() + 1;
        point.put("good", good.policy.clone());
        point.put("good_average", good.average.clone().unwrap_or_default());
        Ok(point)
    }

    fn point(&self, mut point: Savepoint) -> Result<Savepoint> {
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
        if let Some(best) = &self.best {
            point.put("best", best.clone());
        }
        Ok(point)
    }

    /// Takes up a savepoint: its state, and what the iteration would go back to where it is in the
    /// middle of one.
    pub(super) fn restore(&mut self, point: &Savepoint) -> Result<(State, Option<Good>)> {
        let mut state: State = point.within(self.config.iterations)?.state_as()?;
        let n = self.written.len();
        let learning = state.learning.as_ref();
        // As many batches as iterations, and the one that is being learnt from.
        let n_batches = point.step + usize::from(learning.is_some());
        if state.n_done != point.step
            || state.trail.len() != n_batches
            || !state.order.is_within(n)
            || learning.is_some() != (point.part > 0)
            || learning.is_some_and(|learning| !learning.is_of(self.config, n))
        {
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
        self.best = state.best.map(|_| point.group("best"));
        let Some(learning) = &mut state.learning else {
            return Ok((state, None));
        };
        self.see_lower_layers(&mut learning.episodes)?;
        let good = Good {
            policy: point.group("good"),
            average: self.average.as_ref().map(|_| point.group("good_average")),
        };
        Ok((state, Some(good)))
    }
}
