//! What is measured at the end of each epoch, and whose weights become the checkpoint.

use serde::{Deserialize, Serialize};

use super::{LearningRow, SftJob};
use crate::config::Keep;
use crate::error::{Result, TrainerError};
use crate::generate::{SampleRequest, generate};
use crate::memory::JUDGED_ROWS;
use crate::model::heads::RewardModel;
use crate::model::transformer::Transformer;
use crate::model::weights::Trainable;
use crate::progress::Progress;
use crate::sampling::SamplingConfig;
use crate::split;
use crate::text::TextCodec;

/// Figures of the weights at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    /// Mean held-out loss of a learnt token, in nats; none where nothing is held out.
    pub(super) loss: Option<f64>,
    /// Mean score of sampled answers to held-out prompts; none without a reward model.
    pub(super) reward: Option<f64>,
}

impl Figures {
    /// Without held-out demonstrations there are no such figures, and a 0 would look like one.
    pub(super) fn report(self, step: usize, progress: &mut dyn Progress) {
        for (name, value) in [
            ("held_out/loss", self.loss),
            ("held_out/reward", self.reward),
        ] {
            if let Some(value) = value {
                progress.metrics(step as u64, [(name, value)]);
            }
        }
    }
}

/// Index of the epoch to keep, the earlier one of two that are as good; none before the first.
pub(super) fn kept(keep: Keep, epochs: &[Figures]) -> Option<usize> {
    let worth = |figures: &Figures| match keep {
        Keep::Last => None,
        Keep::BestLoss => figures.loss.map(|loss| -loss),
        Keep::BestReward => figures.reward,
    };
    let mut best = epochs.len().checked_sub(1)?;
    for (index, figures) in epochs.iter().enumerate().rev() {
        if let (Some(own), Some(highest)) = (worth(figures), worth(&epochs[best]))
            && own >= highest
        {
            best = index;
        }
    }
    Some(best)
}

/// Which epoch was kept, and why, for the log and the model card.
pub(super) fn reason(keep: Keep, epochs: &[Figures], kept: usize) -> String {
    let which = format!("The weights after epoch {} of {}", kept + 1, epochs.len());
    let figures = epochs[kept];
    match (keep, figures.loss, figures.reward) {
        (Keep::BestLoss, Some(loss), _) => {
            format!("{which} were kept: their held-out loss of {loss:.4} is the lowest.")
        }
        (Keep::BestReward, _, Some(reward)) => format!(
            "{which} were kept: their answers to held-out prompts score highest, {reward:.4} on \
             average."
        ),
        _ => format!("{which} were kept: the last ones, as the setting keep says."),
    }
}

/// A reward model and the held-out prompts whose answers it scores.
pub(super) struct Judge {
    model: RewardModel,
    prompts: Vec<Vec<u32>>,
    sampling: SamplingConfig,
    eos_id: u32,
    /// Held-out prompts that leave no room for an answer.
    pub(super) too_long: usize,
}

impl Judge {
    /// Reads the job's reward model, if it names one, for answers of `policy`.
    ///
    /// # Errors
    /// A sentence about the folder, or that nothing is held out for it to score.
    pub(super) fn load(
        job: &SftJob,
        codec: &TextCodec,
        policy: &Transformer,
        held_out: &[LearningRow],
    ) -> Result<Option<Self>> {
        let config = &job.config;
        let wrong = |field: &'static str, message: String| TrainerError::Config {
            field: field.into(),
            message,
        };
        if config.keep != Keep::Last && held_out.is_empty() {
            let message = "compares epochs by held-out demonstrations, but none could be held out";
            return Err(wrong("keep", message.to_owned()));
        }
        let Some(folder) = &job.reward else {
            return match config.keep {
                Keep::BestReward => {
                    let message = "is best_reward, but no reward model is given";
                    Err(wrong("keep", message.to_owned()))
                }
                _ => Ok(None),
            };
        };
        let model = RewardModel::load(folder, &policy.device, Trainable::Nothing)?;
        codec.check_fits(folder, model.trunk.config.vocab_size)?;
        let context = |model: &Transformer| model.config.max_position_embeddings;
        let context = context(policy).min(context(&model.trunk));
        // The answer follows, and EOS where it has none of its own.
        let room = context.saturating_sub(config.reward_tokens + 1);
        let drawn = split::in_drawn_order(held_out.iter().map(LearningRow::given), config.seed);
        let n = drawn.len();
        if n == 0 {
            let message = "holds out no demonstration whose prompt a reward model could judge";
            return Err(wrong("held_out_share", message.to_owned()));
        }
        let fitting = drawn.into_iter().filter(|prompt| prompt.len() <= room);
        let mut prompts: Vec<Vec<u32>> = fitting.map(<[u32]>::to_vec).collect();
        let too_long = n - prompts.len();
        prompts.truncate(config.reward_prompts);
        if prompts.is_empty() {
            let message = format!(
                "is {}, which leaves no room in a context of {context} tokens for any held-out \
                 prompt",
                config.reward_tokens
            );
            return Err(wrong("reward_tokens", message));
        }
        Ok(Some(Self {
            model,
            prompts,
            sampling: SamplingConfig {
                temperature: 1.0,
                top_p: 1.0,
                max_new_tokens: config.reward_tokens,
                // A seed of its own, the same at each epoch: only the weights differ.
                seed: config.seed ^ 0x5eed,
            },
            eos_id: codec.eos_id,
            too_long,
        }))
    }

    /// Mean score of one answer to each prompt.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) fn mean_reward(
        &self,
        policy: &Transformer,
        progress: &mut dyn Progress,
    ) -> Result<f64> {
        let requests: Vec<SampleRequest> = (0..self.prompts.len())
            .map(|prompt| SampleRequest {
                prompt,
                stream: prompt as u64,
            })
            .collect();
        let (prompts, eos_id) = (&self.prompts, self.eos_id);
        let go_on = &mut |_| !progress.is_cancelled();
        let samples = generate(policy, prompts, &requests, &self.sampling, eos_id, go_on)?;
        let rows: Vec<Vec<u32>> = samples
            .into_iter()
            .map(|sample| {
                let mut row = [prompts[sample.prompt].as_slice(), &sample.tokens].concat();
                if !sample.is_finished {
                    row.push(eos_id);
                }
                row
            })
            .collect();
        let mut sum = 0.0;
        for rows in rows.chunks(JUDGED_ROWS) {
            progress.go_on()?;
            let scores = self.model.score_rows(rows)?;
            sum += scores.into_iter().map(f64::from).sum::<f64>();
        }
        Ok(sum / rows.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> Vec<Figures> {
        let figures = [(2.0, 0.1), (1.5, 0.3), (1.5, 0.7), (1.8, 0.7), (1.9, 0.2)];
        let figures = figures.map(|(loss, reward)| Figures {
            loss: Some(loss),
            reward: Some(reward),
        });
        figures.to_vec()
    }

    #[test]
    fn the_best_epoch_is_kept_and_of_two_as_good_ones_the_earlier() {
        let epochs = epochs();
        assert_eq!(kept(Keep::Last, &epochs), Some(4));
        assert_eq!(kept(Keep::BestLoss, &epochs), Some(1));
        assert_eq!(kept(Keep::BestReward, &epochs), Some(2));
        assert_eq!(kept(Keep::BestLoss, &[]), None);
    }

    #[test]
    fn the_reason_names_the_epoch_and_the_figure() {
        let epochs = epochs();
        let said = reason(Keep::BestLoss, &epochs, 1);
        assert!(said.contains("epoch 2 of 5") && said.contains("loss of 1.5000"));
        let said = reason(Keep::BestReward, &epochs, 2);
        assert!(said.contains("epoch 3 of 5") && said.contains("0.7000"));
        assert!(reason(Keep::Last, &epochs, 4).contains("the last ones"));
    }
}
