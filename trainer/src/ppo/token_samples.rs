//! A few episodes token by token, in `samples.jsonl`: what to look at when a run goes wrong.

use serde_json::{Value, json};

use super::Learner;
use super::episode::Episode;
use crate::error::Result;
use crate::progress::{Event, Progress};

impl Learner<'_> {
    /// Shows the first episodes of an iteration, where it is the turn. `chosen` are their prompts.
    pub(super) fn show_tokens(
        &self,
        episodes: &[Episode],
        chosen: &[usize],
        iteration: usize,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let every = self.config.token_samples_every;
        if every == 0 || !iteration.is_multiple_of(every) {
            return Ok(());
        }
        let shown = episodes.iter().zip(chosen).take(self.config.token_samples);
        for (episode, prompt) in shown {
            let tokens: Result<Vec<Value>> = (0..episode.n)
                .map(|index| self.token(episode, index))
                .collect();
            let mut data = json!({
                "kind": "tokens",
                "prompt": self.written[*prompt],
                "completion": self.codec.decode(episode.completion())?,
                "reward": episode.reward,
                "score": episode.score,
                "kl": episode.kl(),
                "is_finished": episode.is_finished,
                "tokens": tokens?,
            });
            if let Some(gold) = episode.gold {
                data["gold"] = json!(gold);
            }
            let step = iteration as u64 + 1;
            progress.record(Event::Sample { step, data });
        }
        Ok(())
    }

    fn token(&self, episode: &Episode, index: usize) -> Result<Value> {
        let token = episode.completion()[index];
        let (old, reference) = (episode.old[index], episode.reference[index]);
        Ok(json!({
            "token": token,
            "text": self.codec.decode_all(&[token])?,
            "log_prob": old,
            "reference_log_prob": reference,
            "kl": old - reference,
            "value": episode.values[index],
            "reward": episode.rewards[index],
            "advantage": episode.advantages[index],
            "return": episode.returns[index],
        }))
    }
}
