//! A second opinion beside the reward model that is trained against: what the policy is really
//! worth. Training never sees it; the distance between the two shows over-optimisation (Gao et al.,
//! arXiv 2210.10760).

use std::path::PathBuf;

use candle_core::Device;

use super::episode::Episode;
use super::{Learner, PpoJob};
use crate::error::Result;
use crate::model::heads::RewardModel;
use crate::model::transformer::TransformerConfig;
use crate::model::weights::Trainable;
use crate::progress::Progress;
use crate::records::Prompt;
use crate::self_check::files;
use crate::text::TextCodec;

/// What completions are really worth, known to the experimenter only.
pub trait Utility: Send + Sync {
    /// The worth of a completion, in any unit; more is better. `completion` is without EOS.
    fn score(&self, prompt: &Prompt, completion: &str) -> f64;
}

impl<F: Fn(&Prompt, &str) -> f64 + Send + Sync> Utility for F {
    fn score(&self, prompt: &Prompt, completion: &str) -> f64 {
        self(prompt, completion)
    }
}

/// Who gives the second opinion.
pub enum Gold {
    /// A second reward model's folder; it may have another tokenizer than the policy.
    Model(PathBuf),
    /// A known utility.
    Utility(Box<dyn Utility>),
}

impl PpoJob {
    /// The folder of the second reward model, where there is one.
    pub(super) fn gold_folder(&self) -> Option<&PathBuf> {
        match &self.gold {
            Some(Gold::Model(folder)) => Some(folder),
            _ => None,
        }
    }
}

/// One that is ready to judge.
pub(super) enum GoldJudge<'a> {
    Model {
        model: Box<RewardModel>,
        codec: Box<TextCodec>,
        /// It has the policy's tokenizer and template, so it reads the very tokens that were drawn.
        shares_tokens: bool,
    },
    Utility(&'a dyn Utility),
}

impl<'a> GoldJudge<'a> {
    /// The one that the job names.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn load(job: &'a PpoJob, policy: &TextCodec) -> Result<Option<Self>> {
        let folder = match &job.gold {
            None => return Ok(None),
            Some(Gold::Utility(utility)) => return Ok(Some(Self::Utility(utility.as_ref()))),
            Some(Gold::Model(folder)) => folder,
        };
        let codec = TextCodec::load(folder)?;
        let model = RewardModel::load(folder, &Device::Cpu, Trainable::Nothing)?;
        let reads = model.trunk.config.vocab_size;
        codec.check_fits(folder, reads)?;
        // A policy may write more tokens than its tokenizer has.
        let writes = TransformerConfig::read(&job.base)?.vocab_size;
        let shares_tokens = codec.vocab_hash() == policy.vocab_hash()
            && codec.template_hash() == policy.template_hash()
            && writes <= reads;
        Ok(Some(Self::Model {
            model: Box::new(model),
            codec: Box::new(codec),
            shares_tokens,
        }))
    }

    /// How many of the policy's tokens it can read at once; none where they are not its own.
    pub(super) fn context(&self) -> Option<usize> {
        match self {
            Self::Model {
                model,
                shares_tokens: true,
                ..
            } => Some(model.trunk.config.max_position_embeddings),
            _ => None,
        }
    }
}

impl GoldJudge<'_> {
    /// Checks where a model comes from, and its weights.
    pub(super) fn check(&self, job: &PpoJob, progress: &mut dyn Progress) -> Result<()> {
        if let (Self::Model { model, codec, .. }, Some(folder)) = (self, job.gold_folder()) {
            files::origin("second opinion", folder, codec, progress)?;
            files::finite_weights("second opinion", model.trunk.weights(), progress)?;
        }
        Ok(())
    }
}

impl Learner<'_> {
    /// Fills in what the second opinion is, where there is one. `chosen` are the prompts of the
    /// episodes. A row that is longer in its tokens than it can read loses its beginning, which is
    /// told.
    pub(super) fn judge(
        &self,
        episodes: &mut [Episode],
        chosen: &[usize],
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let Some(gold) = self.gold else {
            return Ok(());
        };
        let completion =
            |episode: &Episode| -> Result<String> { self.codec.decode(episode.completion()) };
        match gold {
            GoldJudge::Utility(utility) => {
                for (episode, prompt) in episodes.iter_mut().zip(chosen) {
                    let worth = utility.score(&self.written[*prompt], &completion(episode)?);
                    episode.gold = Some(worth);
                }
            }
            GoldJudge::Model {
                model,
                codec,
                shares_tokens,
            } => {
                let pairs = episodes
                    .chunks_mut(self.micro_rows)
                    .zip(chosen.chunks(self.micro_rows));
                let room = model.trunk.config.max_position_embeddings;
                let mut n_cut = 0;
                for (micro, prompts) in pairs {
                    progress.go_on()?;
                    let mut rows = Vec::with_capacity(micro.len());
                    for (episode, prompt) in micro.iter().zip(prompts) {
                        rows.push(match shares_tokens {
                            true => episode.tokens.clone(),
                            false => {
                                let mut row = codec.encode_prompt(&self.written[*prompt])?;
                                row.extend(codec.encode(&completion(episode)?)?);
                                row.push(codec.eos_id);
                                row
                            }
                        });
                    }
                    for row in rows.iter_mut().filter(|row| row.len() > room) {
                        row.drain(..row.len() - room);
                        n_cut += 1;
                    }
                    let scores = model.score_rows(&rows)?;
                    for (episode, score) in micro.iter_mut().zip(scores) {
                        episode.gold = Some(f64::from(score));
                    }
                }
                if n_cut > 0 {
                    progress.log(format!(
                        "the second opinion reads {room} tokens: it saw {n_cut} of {} answers \
                         without the beginning of their prompts",
                        episodes.len()
                    ));
                }
            }
        }
        Ok(())
    }
}
