//! Fixed prompts, answered before and after training with the same draws.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Learner;
use super::episode::{Episode, mean};
use crate::error::Result;
use crate::progress::{Event, Progress};
use crate::reward::{Accuracy, bootstrap_mean};

/// What answers to the evaluation prompts are worth.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Evaluation {
    /// The reward model's score of each.
    pub(super) rewards: Vec<f64>,
    /// The second opinion of each, where there is one.
    #[serde(default)]
    pub(super) gold: Option<Vec<f64>>,
    /// Mean KL of a sequence, in nats.
    pub(super) kl: f64,
}

/// How a mean over the prompts moved.
pub(super) struct Gain {
    pub(super) before: f64,
    pub(super) after: f64,
    /// The mean difference, with its interval over prompts.
    pub(super) gain: Accuracy,
}

impl Gain {
    fn new(before: &[f64], after: &[f64], seed: u64) -> Self {
        let pairs = after.iter().zip(before);
        let differences: Vec<(f64, usize)> =
            pairs.map(|(after, before)| (after - before, 1)).collect();
        Self {
            before: mean(before.iter().copied()),
            after: mean(after.iter().copied()),
            gain: bootstrap_mean(&differences, seed),
        }
    }

    /// As figures of the run's summary.
    pub(super) fn figures(&self, name: &str) -> Vec<(String, f64)> {
        let mut figures = vec![
            (format!("{name}_before"), self.before),
            (format!("{name}_after"), self.after),
        ];
        figures.extend(self.gain.figures(&format!("{name}_gain")));
        figures
    }
}

impl Evaluation {
    /// What was gained since another evaluation: by the reward model, and by the second opinion
    /// where there is one.
    pub(super) fn gains_over(&self, before: &Self, seed: u64) -> Vec<(&'static str, Gain)> {
        let mut gains = vec![("reward", Gain::new(&before.rewards, &self.rewards, seed))];
        if let (Some(before), Some(after)) = (&before.gold, &self.gold) {
            gains.push(("gold", Gain::new(before, after, seed)));
        }
        gains
    }
}

impl Learner<'_> {
    /// Answers fixed prompts with fixed draws.
    pub(super) fn evaluate(
        &self,
        prompts: &[Vec<u32>],
        chosen: Range<usize>,
        step: u64,
        moment: &str,
        progress: &mut dyn Progress,
    ) -> Result<Evaluation> {
        let chosen: Vec<usize> = chosen.collect();
        progress.phase(
            &format!("answering prompts {moment} training"),
            0,
            chosen.len(),
        );
        let mut episodes = self.sample(prompts, &chosen, "evaluation", 0, progress)?;
        self.appraise(&mut episodes, progress)?;
        self.judge(&mut episodes, &chosen, progress)?;
        for (index, (episode, prompt)) in episodes.iter().zip(&chosen).enumerate() {
            let mut data = json!({
                "kind": moment,
                "moment": moment,
                "prompt_index": index,
                "prompt": self.written[*prompt],
                "completion": self.codec.decode(episode.completion())?,
                "reward": episode.reward,
                "kl": episode.kl(),
                "is_finished": episode.is_finished,
            });
            if let Some(gold) = episode.gold {
                data["gold"] = json!(gold);
            }
            progress.record(Event::Sample { step, data });
        }
        Ok(Evaluation {
            rewards: episodes.iter().map(|episode| episode.reward).collect(),
            gold: episodes.iter().map(|episode| episode.gold).collect(),
            kl: mean(episodes.iter().map(Episode::kl)),
        })
    }
}
