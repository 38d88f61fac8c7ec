//! Plain texts: those of the pretraining term, and those kept out of it, whose loss shows what the
//! policy forgets (the alignment tax of InstructGPT, section 4.2).

use rand::seq::SliceRandom;

use super::{Learner, PpoJob};
use crate::error::{Result, TrainerError};
use crate::model::transformer::TransformerConfig;
use crate::progress::Progress;
use crate::records::{self, Placed, TextRecord};
use crate::rng::stream;
use crate::sft::{LearningRow, held_out_loss};
use crate::text::TextCodec;

/// Rows of at most `ptx_tokens` tokens.
#[derive(Default)]
pub(super) struct Texts {
    /// What the pretraining term learns; empty where it is off.
    pub(super) learnt: Vec<LearningRow>,
    /// What is only measured: the first row of each text that is kept out.
    pub(super) held_out: Vec<LearningRow>,
}

/// Reads the texts, in an order drawn by the seed.
pub(super) fn read_texts(job: &PpoJob, codec: &TextCodec) -> Result<Texts> {
    let config = &job.config;
    let Some(path) = &job.texts else {
        return Ok(Texts::default());
    };
    let learns = config.ptx_coefficient > 0.0 && config.ptx_examples_per_episode > 0.0;
    if !learns && config.held_out_texts == 0 {
        return Ok(Texts::default());
    }
    let context = TransformerConfig::read(&job.base)?.max_position_embeddings;
    if config.ptx_tokens > context {
        return Err(TrainerError::Config {
            field: "ptx_tokens".into(),
            message: format!(
                "is {}, more than the context of {context} tokens",
                config.ptx_tokens
            ),
        });
    }
    let records: Vec<Placed<TextRecord>> = records::read_placed(path)?;
    let mut texts: Vec<Vec<LearningRow>> = Vec::new();
    for placed in &records {
        let tokens = placed.at_field("text", codec.encode(&placed.record.text))?;
        let chunks = tokens.chunks(config.ptx_tokens);
        let rows = chunks
            .filter(|chunk| chunk.len() > 1)
            .map(|chunk| LearningRow {
                tokens: chunk.to_vec(),
                start: 1,
            });
        texts.push(rows.collect());
    }
    texts.retain(|rows| !rows.is_empty());
    // Without a row the pretraining term would be off, though texts were given.
    if texts.is_empty() {
        let message = "has fewer than 2 tokens, as has every other text";
        return Err(records[0].error("text", message));
    }
    texts.shuffle(&mut stream(config.seed, "held-out texts", 0));
    let most = match learns {
        true => texts.len() / 2,
        false => texts.len(),
    };
    let rest = texts.split_off(config.held_out_texts.min(most));
    let held_out = texts.into_iter().filter_map(|rows| rows.into_iter().next());
    let held_out = held_out.collect();
    let mut learnt: Vec<LearningRow> = match learns {
        true => rest.into_iter().flatten().collect(),
        false => Vec::new(),
    };
    learnt.shuffle(&mut stream(config.seed, "texts", 0));
    Ok(Texts { learnt, held_out })
}

impl Learner<'_> {
    /// Mean negative log-likelihood of a token of the texts kept out, in nats; none where there are
    /// none.
    pub(super) fn held_out_text_loss(&self, progress: &mut dyn Progress) -> Result<Option<f64>> {
        let (policy, rows) = (&self.models.policy, &self.texts.held_out);
        held_out_loss(policy, rows, self.micro_rows, self.codec.pad_id, progress)
    }

    /// The same of the policy that draws this iteration's episodes, where it is the turn.
    pub(super) fn text_loss_in_turn(
        &self,
        iteration: usize,
        before: Option<f64>,
        progress: &mut dyn Progress,
    ) -> Result<Option<f64>> {
        let every = self.config.text_loss_every;
        match iteration {
            0 if every > 0 => Ok(before),
            _ if every > 0 && iteration.is_multiple_of(every) => self.held_out_text_loss(progress),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::config::{PpoConfig, Preset};
    use crate::savepoint::SavePolicy;

    /// Ten texts of several rows each.
    fn read(ptx_coefficient: f64, held_out_texts: usize) -> Texts {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.jsonl");
        let line = |index: usize| {
            // Each has a digit of its own, which every row of five tokens holds.
            let text = [index.to_string().as_str(); 6].join(" ");
            format!("{{\"text\": \"{text} {text}\"}}\n")
        };
        let lines: String = (0..10).map(line).collect();
        std::fs::write(&path, lines).unwrap();
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let codec = TextCodec::load(&base).unwrap();
        let job = PpoJob {
            config: PpoConfig {
                ptx_coefficient,
                held_out_texts,
                ptx_tokens: 5,
                ..PpoConfig::preset(Preset::Tiny)
            },
            prompts: path.clone(),
            texts: Some(path.clone()),
            reward: base.clone(),
            base,
            gold: None,
            out: path,
            saving: SavePolicy::default(),
        };
        read_texts(&job, &codec).unwrap()
    }

    fn rows(rows: &[LearningRow]) -> BTreeSet<&[u32]> {
        rows.iter().map(|row| row.tokens.as_slice()).collect()
    }

    #[test]
    fn a_text_that_is_kept_out_is_never_learnt_and_never_are_too_many_kept_out() {
        let both = read(1.0, 3);
        assert_eq!(both.held_out.len(), 3);
        assert!(!both.learnt.is_empty());
        assert!(rows(&both.held_out).is_disjoint(&rows(&both.learnt)));
        assert_eq!(read(1.0, 100).held_out.len(), 5);
    }

    #[test]
    fn without_the_pretraining_term_texts_are_only_measured() {
        let measured = read(0.0, 100);
        assert_eq!((measured.learnt.len(), measured.held_out.len()), (0, 10));
        let nothing = read(0.0, 0);
        assert_eq!((nothing.learnt.len(), nothing.held_out.len()), (0, 0));
    }
}
