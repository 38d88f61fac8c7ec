//! A learner on the tiny model of the fixtures, for tests of single phases.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

use candle_core::Device;

use super::episode::Episode;
use super::texts::Texts;
use super::{Learner, Models};
use crate::config::{PpoConfig, Preset};
use crate::model::heads::RewardModel;
use crate::model::transformer::Transformer;
use crate::model::weights::Trainable;
use crate::optim::{AdamW, WeightAverage};
use crate::progress::Silent;
use crate::records::Prompt;
use crate::sft::LearningRow;
use crate::text::TextCodec;

/// What a learner borrows.
pub(super) struct Stand {
    pub(super) config: PpoConfig,
    pub(super) codec: TextCodec,
    pub(super) models: Models,
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) written: Vec<Prompt>,
    pub(super) texts: Texts,
}

impl Stand {
    /// Four prompts, six texts, and the tiny preset with `change`.
    pub(super) fn new(change: impl FnOnce(&mut PpoConfig)) -> Self {
        let mut config = PpoConfig::preset(Preset::Tiny);
        change(&mut config);
        config.check().unwrap();
        let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let load = |trainable| Transformer::load(&folder, &Device::Cpu, trainable).unwrap();
        let judge = |trainable| {
            RewardModel::from_language_model(&folder, &Device::Cpu, trainable, 5).unwrap()
        };
        let models = Models {
            policy: load(Trainable::Everything),
            reference: load(Trainable::Nothing),
            reward: judge(Trainable::Nothing),
            value: judge(Trainable::Everything),
            shared: false,
        };
        let row = |index: u32, n: u32| (0..n).map(|t| 3 + (17 * index + 11 * t) % 290).collect();
        let text = |index: u32| LearningRow {
            tokens: row(index, 5 + index),
            start: 1,
        };
        Self {
            config,
            codec: TextCodec::load(&folder).unwrap(),
            models,
            prompts: (0..4).map(|index| row(40 + index, 3 + index)).collect(),
            written: (0..4)
                .map(|index| Prompt::Text(format!("p{index}")))
                .collect(),
            texts: Texts {
                learnt: (0..6).map(text).collect(),
                held_out: Vec::new(),
            },
        }
    }

    pub(super) fn learner(&self) -> Learner<'_> {
        let variables = self.models.policy.weights().variables();
        let average = (self.config.ema_decay > 0.0)
            .then(|| WeightAverage::new(variables, self.config.ema_decay).unwrap());
        Learner {
            config: &self.config,
            codec: &self.codec,
            models: &self.models,
            written: &self.written,
            texts: &self.texts,
            gold: None,
            policy_optimiser: AdamW::new(self.config.policy_optimiser.clone()),
            value_optimiser: AdamW::new(self.config.value_optimiser.clone()),
            average,
            kl_coefficient: self.config.kl_coefficient,
            next_text: 0,
            best: None,
            micro_rows: super::MICRO_ROWS,
            truncate_at: None,
        }
    }

    /// `n` episodes of the prompts in turn, drawn, appraised and credited.
    pub(super) fn episodes(&self, learner: &Learner, n: usize) -> Vec<Episode> {
        let chosen: Vec<usize> = (0..n).map(|index| index % self.prompts.len()).collect();
        let drawn = learner.draw(&self.prompts, &chosen, 0, &mut Silent);
        let mut episodes = drawn.unwrap();
        learner.credit(&mut episodes);
        episodes
    }
}
