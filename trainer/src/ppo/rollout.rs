//! Phases 2 and 3: sampling episodes, and what the four models say of them.

use candle_core::Tensor;

use super::Learner;
use super::episode::{Episode, by_prompt, token_positions};
use crate::config::PpoConfig;
use crate::error::{Result, TrainerError};
use crate::generate::{SampleRequest, generate};
use crate::kl::clamped;
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::ensemble::{EnsembleScore, mean_and_deviation};
use crate::model::token_log_probs;
use crate::progress::Progress;
use crate::sampling::SamplingConfig;
use crate::text::TextCodec;

/// The token that ends a completion as EOS does, where the settings name one.
///
/// # Errors
/// When it is not one token of this tokenizer.
pub(super) fn truncate_token(config: &PpoConfig, codec: &TextCodec) -> Result<Option<u32>> {
    let Some(text) = &config.truncate_at else {
        return Ok(None);
    };
    match codec.encode(text)?.as_slice() {
        [token] => Ok(Some(*token)),
        tokens => Err(TrainerError::Config {
            field: "truncate_at".into(),
            message: format!(
                "is {text:?}, which is {} tokens of this model; it must be one",
                tokens.len()
            ),
        }),
    }
}

/// Numbers that are not finite would pass through everything that follows.
pub(super) fn check_finite(episodes: &[Episode]) -> Result<()> {
    for episode in episodes {
        let lists = [&episode.old, &episode.reference, &episode.values];
        let mut numbers = lists.into_iter().flatten().chain([&episode.reward]);
        if episode.gold.is_some_and(|gold| !gold.is_finite()) {
            return Err(TrainerError::Config {
                field: "gold".into(),
                message: "gives a completion a score that is not finite".to_owned(),
            });
        }
        if !numbers.all(|number| number.is_finite()) {
            let message = "what the models say of a completion is not finite".to_owned();
            return Err(TrainerError::Diverged(message));
        }
    }
    Ok(())
}

impl Learner<'_> {
    /// An episode for each chosen prompt, with what everybody says of it.
    pub(super) fn draw(
        &self,
        prompts: &[Vec<u32>],
        chosen: &[usize],
        first_stream: u64,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Episode>> {
        let mut episodes = self.sample(prompts, chosen, "rollout", first_stream, progress)?;
        self.appraise(&mut episodes, progress)?;
        self.judge(&mut episodes, chosen, progress)?;
        Ok(episodes)
    }

    /// Samples one completion for each chosen prompt.
    pub(super) fn sample(
        &self,
        prompts: &[Vec<u32>],
        chosen: &[usize],
        purpose: &str,
        first_stream: u64,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Episode>> {
        let requests: Vec<SampleRequest> = chosen
            .iter()
            .enumerate()
            .map(|(index, prompt)| SampleRequest {
                prompt: *prompt,
                stream: first_stream + index as u64,
            })
            .collect();
        // Evaluation draws from a seed of its own, the same before and after.
        let seed = match purpose {
            "rollout" => self.config.seed,
            "comparison" => self.config.seed ^ 0xc0de,
            _ => self.config.seed ^ 0x5eed,
        };
        let sampling = SamplingConfig {
            temperature: self.config.temperature,
            top_p: 1.0,
            max_new_tokens: self.config.max_new_tokens,
            seed,
        };
        let samples = generate(
            &self.models.policy,
            prompts,
            &requests,
            &sampling,
            self.codec.eos_id,
            &mut |_| !progress.is_cancelled(),
        )?;
        let episodes = samples.into_iter().map(|sample| {
            let end = self.end_of(&sample.tokens);
            let n = end.unwrap_or(sample.tokens.len());
            let is_finished = sample.is_finished || end.is_some();
            let (prompt, eos_id) = (&prompts[sample.prompt], self.codec.eos_id);
            let mut episode = Episode::new(prompt, &sample.tokens[..n], is_finished, eos_id);
            episode.drawn = sample.log_probs[..n].to_vec();
            episode
        });
        Ok(episodes.collect())
    }

    /// How many tokens a completion has up to the text that ends it, where it has that text. What was
    /// drawn after it counts for nothing.
    fn end_of(&self, tokens: &[u32]) -> Option<usize> {
        let wanted = self.truncate_at?;
        let mut places = tokens.iter().enumerate().skip(self.config.truncate_after);
        let (place, _) = places.find(|(_, token)| **token == wanted)?;
        Some(place + 1)
    }

    /// The episodes in one row, in which the prompt of several is there once.
    pub(super) fn batch(&self, episodes: &[&Episode]) -> Result<TokenBatch> {
        let rows: Vec<&[u32]> = episodes.iter().map(|one| one.tokens.as_slice()).collect();
        TokenBatch::sharing(&rows, &by_prompt(episodes), &self.models.policy.device)
    }

    /// Fills in what the frozen blocks make of episodes that come from a savepoint, in the batches in
    /// which [`Learner::appraise`] took them.
    pub(super) fn see_lower_layers(&self, episodes: &mut [Episode]) -> Result<()> {
        let models = self.models;
        if models.policy.n_frozen() == 0 {
            return Ok(());
        }
        for micro in episodes.chunks_mut(self.micro_rows) {
            let views: Vec<&Episode> = micro.iter().collect();
            let batch = self.batch(&views)?;
            let lower = models.policy.lower(&batch)?.detach();
            let value_lower = match models.shared {
                true => lower.clone(),
                false => models.value.trunk.lower(&batch)?.detach(),
            };
            let lowers = batch.unstack(&lower)?;
            let lowers = lowers.into_iter().zip(batch.unstack(&value_lower)?);
            for (episode, (policy, value)) in micro.iter_mut().zip(lowers) {
                episode.policy_lower = Some(policy);
                episode.value_lower = Some(value);
            }
        }
        Ok(())
    }

    /// Fills in old log-probabilities, those of the reference, values and scores, all by the same
    /// forward pass that training uses.
    pub(super) fn appraise(
        &self,
        episodes: &mut [Episode],
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let models = self.models;
        let n = models.policy.n_frozen();
        for micro in episodes.chunks_mut(self.micro_rows) {
            progress.go_on()?;
            let views: Vec<&Episode> = micro.iter().collect();
            let batch = self.batch(&views)?;
            let (positions, targets) = token_positions(&batch, &views);
            let count = positions.len();
            let positions = Tensor::from_vec(positions, count, &models.policy.device)?;
            let targets = Tensor::from_vec(targets, count, &models.policy.device)?;

            let lower = models.policy.lower(&batch)?.detach();
            let reference_lower = if n > 0 {
                lower.clone()
            } else {
                models.reference.lower(&batch)?
            };
            let reference_hidden = match n {
                0 => {
                    let reference = &models.reference;
                    reference.upper_of(&reference_lower, &batch, Pass::Frozen)?
                }
                n => {
                    let reference = &models.reference;
                    reference.upper_from_of(&lower, n, &batch, Pass::Tracked)?
                }
            };
            // The tracked pass, so that the old log-probabilities are those that training sees.
            // Its history goes at once, before the value model's is there.
            let policy = &models.policy;
            let policy_hidden = policy.upper_of(&lower, &batch, Pass::Tracked)?.detach();
            let pick = |hidden: &Tensor| hidden.flatten(0, 1)?.index_select(&positions, 0);
            let temperature = self.config.temperature;
            let ours = token_log_probs::evaluate(
                &pick(&policy_hidden)?,
                models.policy.head(),
                &targets,
                temperature,
            )?;
            let theirs = token_log_probs::evaluate(
                &pick(&reference_hidden)?,
                models.reference.head(),
                &targets,
                temperature,
            )?;

            let value_lower = if models.shared {
                lower.clone()
            } else {
                models.value.trunk.lower(&batch)?.detach()
            };
            let value_hidden = models
                .value
                .trunk
                .upper_of(&value_lower, &batch, Pass::Tracked)?
                .detach();
            let values = models
                .value
                .values(&value_hidden)?
                .flatten_all()?
                .index_select(&positions, 0)?;
            let reward_hidden = match models.shared {
                true => {
                    let trunk = &models.reward.trunk;
                    trunk.upper_from_of(&lower, n, &batch, Pass::Tracked)?
                }
                false => models.reward.trunk.hidden(&batch, Pass::Frozen)?,
            };
            let scores: Vec<f32> = models.reward.scores(&reward_hidden, &batch)?.to_vec1()?;
            let members = models.reward.member_scores(&reward_hidden, &batch)?;
            let members: Vec<Vec<f32>> = members.to_vec2()?;

            let numbers = |tensor: &Tensor| -> Result<Vec<f64>> {
                Ok(tensor
                    .to_vec1::<f32>()?
                    .into_iter()
                    .map(f64::from)
                    .collect())
            };
            let (old, entropy) = (numbers(&ours.log_prob)?, numbers(&ours.entropy)?);
            let (reference, values) = (numbers(&theirs.log_prob)?, numbers(&values)?);
            let lowers = if n > 0 {
                Some((batch.unstack(&lower)?, batch.unstack(&value_lower)?))
            } else {
                None
            };
            let mut offset = 0;
            for (row, episode) in micro.iter_mut().enumerate() {
                let range = offset..offset + episode.n;
                offset = range.end;
                episode.old = old[range.clone()].to_vec();
                episode.entropy = entropy[range.clone()].to_vec();
                episode.reference = reference[range.clone()].to_vec();
                episode.values = values[range].to_vec();
                episode.reward = f64::from(scores[row]);
                let mut score = episode.reward;
                if let many @ [_, _, ..] = members[row].as_slice() {
                    let many: Vec<f64> = many.iter().map(|score| f64::from(*score)).collect();
                    if self.config.ensemble != EnsembleScore::Mean {
                        score = self.config.ensemble.of(&many);
                    }
                    episode.deviation = Some(mean_and_deviation(&many).1);
                }
                let config = self.config;
                let clipped = clamped(score, config.reward_clip);
                episode.score = match episode.is_finished {
                    true => clipped,
                    false => config
                        .missing_eos
                        .apply(clipped, config.missing_eos_penalty),
                };
                if let Some((policy_lowers, value_lowers)) = &lowers {
                    episode.policy_lower = Some(policy_lowers[row].clone());
                    episode.value_lower = Some(value_lowers[row].clone());
                }
            }
        }
        Ok(())
    }
}
