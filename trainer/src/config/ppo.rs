//! Settings of PPO.

use serde::{Deserialize, Serialize};

use super::{
    EarlyStop, Preset, adam, check_adam, check_lora, check_memory, check_schedule, in_range,
    tensorflow_adam, torch_adamw, trainable,
};
use crate::advantage::AdvantageWhitening;
use crate::error::{Result, TrainerError};
use crate::kl::{KlControl, KlEstimator};
use crate::model::ensemble::EnsembleScore;
use crate::model::lora::LoraConfig;
use crate::model::weights::Trainable;
use crate::optim::AdamConfig;
use crate::schedule::Schedule;

/// What happens to the score of a completion that reached its length limit without EOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingEos {
    /// Minus the penalty takes the place of the score (lm-human-preferences).
    Replace,
    /// The penalty is taken off the score (TRL).
    Subtract,
}

impl MissingEos {
    /// The score that training sees.
    pub fn apply(self, score: f64, penalty: f64) -> f64 {
        match self {
            Self::Replace => -penalty,
            Self::Subtract => score - penalty,
        }
    }
}

fn mean() -> EnsembleScore {
    EnsembleScore::Mean
}

/// Whose weights become the checkpoint of PPO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepPolicy {
    /// The last ones.
    #[default]
    Last,
    /// Those whose answers to the evaluation prompts the second opinion scores highest, the base's
    /// among them: the reward model that is trained against cannot tell which those are (Gao et al.,
    /// arXiv 2210.10760).
    BestGold,
}

/// PPO against a reward model, with the pretraining term (PPO-ptx).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PpoConfig {
    /// Seed of sampling and shuffling.
    pub seed: u64,
    /// Train this many upper layers of policy and value model; none trains everything.
    pub train_layers: Option<usize>,
    /// Train low-rank adapters of policy and value model in place of those layers (Hu et al., arXiv
    /// 2106.09685); none, as in the paper, trains the layers themselves. The base is in memory once:
    /// it is the reference, and, where the reward model was trained by an adapter on the same base,
    /// reward and value model are that base too. `ema_decay` averages A and B each by itself.
    #[serde(default)]
    pub lora: Option<LoraConfig>,
    /// Rounds of sampling and learning (C.4: 256,000 episodes in batches of 512).
    pub iterations: usize,
    /// Episodes in a round (C.4: 512).
    pub batch_episodes: usize,
    /// Completions of each prompt in a batch, which holds that many fewer prompts. The prompt is then
    /// read once for all of them when they are sampled, and when the models are asked about them
    /// (InstructGPT: 1).
    #[serde(default = "one")]
    pub samples_per_prompt: usize,
    /// Steps that a round's episodes are split into (C.4: 8 of 64).
    pub minibatches: usize,
    /// Passes over a round's episodes (C.4: 1).
    pub inner_epochs: usize,
    /// Longest completion, in tokens (C: 1k).
    pub max_new_tokens: usize,
    /// Longest prompt, in tokens; longer ones are left out, and counted (C: 1k).
    pub max_prompt_tokens: usize,
    /// Sampling temperature (C.4: 1); log-probabilities are taken at the same one, top-p is off.
    pub temperature: f64,
    /// Weight of the KL term for each token (C.4: 0.02).
    pub kl_coefficient: f64,
    /// How that weight moves (C.4: fixed).
    pub kl_control: KlControl,
    /// Which estimate of KL is the penalty of a token (not printed; k1 from lm-human-preferences).
    #[serde(default)]
    pub kl_estimator: KlEstimator,
    /// Largest size of that estimate, in nats (not printed; OpenRLHF: 10); 0 is off.
    #[serde(default)]
    pub kl_clamp: f64,
    /// The run ends when the mean KL of a sequence exceeds this, in nats (not printed; ours).
    pub kl_budget: f64,
    /// Discount (C.4: none).
    pub gamma: f64,
    /// Lambda of the advantage estimate (not printed; 0.95 from lm-human-preferences).
    pub lambda: f64,
    /// Clipping of the policy ratio (C.4: 0.2).
    pub clip: f64,
    /// Largest size of the log-ratio between the policy and the one that drew a token, in the
    /// policy's loss (not printed; OpenRLHF: 20); 0 is off.
    #[serde(default)]
    pub log_ratio_clamp: f64,
    /// The passes over a round's episodes end after one whose approximate KL per token to the policy
    /// that drew them exceeds this, in nats (not printed; ours); 0 is off.
    #[serde(default)]
    pub approximate_kl_target: f64,
    /// Clipping of the value's change (not printed; 0.2 from lm-human-preferences).
    pub value_clip: f64,
    /// How the scores of a reward model's members become one, where it is an ensemble (Coste et al.,
    /// arXiv 2310.02743; InstructGPT has none).
    #[serde(default = "mean")]
    pub ensemble: EnsembleScore,
    /// Largest size of the reward model's score (not printed; DeepSpeed-Chat: 5, OpenRLHF: 10); 0 is
    /// off. What a missing EOS costs comes after it.
    #[serde(default)]
    pub reward_clip: f64,
    /// Scale the rewards of a batch's tokens to variance 1 around their mean, which stays (not
    /// printed; lm-human-preferences does for styles, not for summaries).
    #[serde(default)]
    pub whiten_rewards: bool,
    /// Over which tokens advantages are whitened (not printed; the batch's, from
    /// summarize_from_feedback_details).
    #[serde(default)]
    pub whiten_advantages: AdvantageWhitening,
    /// A text of one token that ends a completion as EOS does (lm-human-preferences: "."); that what
    /// was drawn after it counts for nothing is ours. None is EOS alone.
    #[serde(default)]
    pub truncate_at: Option<String>,
    /// Tokens that a completion has before that text ends it (lm-human-preferences: 16).
    #[serde(default)]
    pub truncate_after: usize,
    /// What happens to the score of a completion that does not end with EOS (not printed;
    /// replaced as in lm-human-preferences). The reward model reads it with EOS added.
    pub missing_eos: MissingEos,
    /// How much such a completion costs (not printed; 1 from lm-human-preferences).
    pub missing_eos_penalty: f64,
    /// Weight of the pretraining gradient, gamma in the paper (C.4: 27.8); 0 is plain PPO.
    pub ptx_coefficient: f64,
    /// Pretraining examples for each episode (C.4: 8).
    pub ptx_examples_per_episode: f64,
    /// Tokens of a pretraining example.
    pub ptx_tokens: usize,
    /// Texts kept out of the pretraining term, to measure what the policy forgets (ours); at most
    /// half of them where that term is on.
    #[serde(default)]
    pub held_out_texts: usize,
    /// Iterations from one measurement of that loss to the next (ours); 0 measures before and after
    /// training only.
    #[serde(default)]
    pub text_loss_every: usize,
    /// The policy's optimiser (not printed; ours, below the 8.05e-6 above which 1.3B diverged
    /// without ptx, E.9).
    pub policy_optimiser: AdamConfig,
    /// The value model's optimiser (C.4: 9e-6).
    pub value_optimiser: AdamConfig,
    /// Shape of the policy's learning rate over its iterations (C.4: constant after 10 iterations of
    /// warm-up from 1/10).
    pub schedule: Schedule,
    /// Shape of the value model's (C.4: fixed); none is that of the policy.
    #[serde(default)]
    pub value_schedule: Option<Schedule>,
    /// Iterations at the start in which only the value model learns (OpenRLHF's freezing steps; not
    /// in the paper).
    #[serde(default)]
    pub policy_waits: usize,
    /// Decay of the average of weights that becomes the checkpoint (C.4: 0.992; for each step of the
    /// optimiser, which is not printed); 0 is off.
    pub ema_decay: f64,
    /// The run is fitted to this much memory, in GiB, by micro-batches and recomputation; none is no
    /// limit (ours).
    #[serde(default)]
    pub memory_limit_gib: Option<f64>,
    /// Blocks keep only their input and run again in the backward pass: less memory, about a third
    /// more time, the same gradients. Off, it is still used where the limit asks for it (ours).
    #[serde(default)]
    pub recompute_activations: bool,
    /// Rows that pass through the networks together; none is 8, or fewer where the limit
    /// on memory asks for it (ours).
    #[serde(default)]
    pub micro_rows: Option<usize>,
    /// Whose weights become the checkpoint (not printed; ours).
    #[serde(default)]
    pub keep: KeepPolicy,
    /// Iterations from one comparison by the second opinion to the next, where `keep` asks for them
    /// (ours).
    #[serde(default = "keep_every")]
    pub keep_every: usize,
    /// Prompts answered before and after training, for people to compare.
    pub evaluation_prompts: usize,
    /// Signs of collapse that end the run (ours).
    #[serde(default)]
    pub stop: EarlyStop,
    /// Episodes of an iteration that samples.jsonl shows token by token (ours).
    #[serde(default)]
    pub token_samples: usize,
    /// Iterations from one such showing to the next (ours); 0 shows none.
    #[serde(default)]
    pub token_samples_every: usize,
}

fn one() -> usize {
    1
}

fn keep_every() -> usize {
    10
}

impl PpoConfig {
    /// The settings of a preset.
    pub fn preset(preset: Preset) -> Self {
        let base = Self {
            seed: 1,
            train_layers: None,
            lora: None,
            iterations: 500,
            batch_episodes: 512,
            samples_per_prompt: 1,
            minibatches: 8,
            inner_epochs: 1,
            max_new_tokens: 1000,
            max_prompt_tokens: 1000,
            temperature: 1.0,
            kl_coefficient: 0.02,
            kl_control: KlControl::Fixed,
            kl_estimator: KlEstimator::K1,
            kl_clamp: 0.0,
            kl_budget: 100.0,
            gamma: 1.0,
            lambda: 0.95,
            clip: 0.2,
            log_ratio_clamp: 0.0,
            approximate_kl_target: 0.0,
            value_clip: 0.2,
            ensemble: EnsembleScore::Mean,
            reward_clip: 0.0,
            whiten_rewards: false,
            whiten_advantages: AdvantageWhitening::Batch,
            truncate_at: None,
            truncate_after: 0,
            missing_eos: MissingEos::Replace,
            missing_eos_penalty: 1.0,
            ptx_coefficient: 27.8,
            ptx_examples_per_episode: 8.0,
            ptx_tokens: 1024,
            held_out_texts: 64,
            text_loss_every: 10,
            policy_optimiser: adam(8e-6),
            value_optimiser: adam(9e-6),
            schedule: Schedule::Constant {
                warmup: 10,
                from: 0.1,
            },
            value_schedule: Some(Schedule::Constant {
                warmup: 0,
                from: 1.0,
            }),
            policy_waits: 0,
            ema_decay: 0.992,
            memory_limit_gib: None,
            recompute_activations: false,
            micro_rows: None,
            keep: KeepPolicy::Last,
            keep_every: keep_every(),
            evaluation_prompts: 16,
            stop: EarlyStop {
                reward_drop: 1.0,
                eos_floor: 0.1,
                spread_floor: 0.05,
                patience: 5,
            },
            token_samples: 4,
            token_samples_every: 50,
        };
        let small = Self {
            minibatches: 2,
            kl_budget: 30.0,
            // A small model rarely ends within the limit of a short run; replacing every score
            // would leave nothing to learn from.
            missing_eos: MissingEos::Subtract,
            missing_eos_penalty: 0.0,
            // 27.8 made training unstable for DeepSpeed-Chat's authors.
            ptx_coefficient: 0.5,
            ptx_examples_per_episode: 0.125,
            schedule: Schedule::Constant {
                warmup: 3,
                from: 0.1,
            },
            value_schedule: None,
            // Averaging over more steps than the run has would undo it.
            ema_decay: 0.0,
            // A model that was not taught to end rarely does so within the limit.
            stop: EarlyStop {
                eos_floor: 0.0,
                ..base.stop.clone()
            },
            ..base.clone()
        };
        match preset {
            Preset::Tiny => Self {
                iterations: 3,
                batch_episodes: 8,
                max_new_tokens: 8,
                max_prompt_tokens: 128,
                ptx_tokens: 32,
                held_out_texts: 4,
                text_loss_every: 1,
                policy_optimiser: adam(1e-3),
                value_optimiser: adam(1e-3),
                evaluation_prompts: 4,
                token_samples: 2,
                token_samples_every: 2,
                ..small
            },
            Preset::Demo => Self {
                train_layers: Some(4),
                iterations: 24,
                batch_episodes: 32,
                // Long enough for about half of the completions to end by themselves, as those do
                // that the demo's reward model learns from.
                max_new_tokens: 64,
                max_prompt_tokens: 96,
                ptx_tokens: 64,
                held_out_texts: 32,
                text_loss_every: 4,
                policy_optimiser: adam(1e-4),
                value_optimiser: adam(1e-4),
                evaluation_prompts: 48,
                token_samples_every: 8,
                ..small
            },
            Preset::Instructgpt => base,
            Preset::Summarize => Self {
                // A million episodes.
                iterations: 1953,
                inner_epochs: 4,
                minibatches: 1,
                max_new_tokens: 53,
                max_prompt_tokens: 512,
                temperature: 0.7,
                kl_coefficient: 0.05,
                policy_optimiser: torch_adamw(3e-6),
                value_optimiser: torch_adamw(3e-6),
                schedule: Schedule::Linear { floor: 0.0 },
                ..base.without_ptx()
            },
            Preset::LmHumanPreferences => Self {
                // A million episodes, the last batch rounded up.
                iterations: 1954,
                inner_epochs: 4,
                minibatches: 1,
                max_new_tokens: 24,
                max_prompt_tokens: 64,
                temperature: 0.7,
                kl_coefficient: 0.15,
                kl_control: KlControl::Adaptive {
                    target: 6.0,
                    horizon: 10_000.0,
                },
                whiten_rewards: true,
                whiten_advantages: AdvantageWhitening::Minibatch,
                truncate_at: Some(".".to_owned()),
                truncate_after: 16,
                policy_optimiser: tensorflow_adam(1e-5),
                value_optimiser: tensorflow_adam(1e-5),
                schedule: Schedule::Linear { floor: 0.0 },
                ..base.without_ptx()
            },
        }
    }

    /// Neither the pretraining term nor the average of weights nor a schedule of the value model's own,
    /// all of which came with InstructGPT.
    fn without_ptx(self) -> Self {
        Self {
            ptx_coefficient: 0.0,
            ema_decay: 0.0,
            value_schedule: None,
            ..self
        }
    }

    /// What learns.
    pub fn trainable(&self) -> Trainable {
        trainable(self.train_layers)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        in_range("iterations", self.iterations as f64, 1.0, 1e7)?;
        in_range("batch_episodes", self.batch_episodes as f64, 2.0, 1e5)?;
        let samples = self.samples_per_prompt;
        in_range(
            "samples_per_prompt",
            samples as f64,
            1.0,
            self.batch_episodes as f64,
        )?;
        if !self.batch_episodes.is_multiple_of(samples) {
            return Err(TrainerError::Config {
                field: "samples_per_prompt".into(),
                message: format!(
                    "is {samples}, which does not divide batch_episodes, {}",
                    self.batch_episodes
                ),
            });
        }
        in_range(
            "minibatches",
            self.minibatches as f64,
            1.0,
            self.batch_episodes as f64,
        )?;
        in_range("inner_epochs", self.inner_epochs as f64, 1.0, 100.0)?;
        in_range("max_new_tokens", self.max_new_tokens as f64, 1.0, 4096.0)?;
        in_range("max_prompt_tokens", self.max_prompt_tokens as f64, 1.0, 1e6)?;
        in_range("temperature", self.temperature, 0.01, 10.0)?;
        in_range("kl_coefficient", self.kl_coefficient, 0.0, 100.0)?;
        in_range("kl_clamp", self.kl_clamp, 0.0, 1e6)?;
        in_range("log_ratio_clamp", self.log_ratio_clamp, 0.0, 1e3)?;
        in_range("reward_clip", self.reward_clip, 0.0, 1e9)?;
        let target = self.approximate_kl_target;
        in_range("approximate_kl_target", target, 0.0, 1e3)?;
        let (after, longest) = (self.truncate_after as f64, self.max_new_tokens as f64);
        in_range("truncate_after", after, 0.0, longest)?;
        let (waits, all) = (self.policy_waits as f64, self.iterations as f64);
        in_range("policy_waits", waits, 0.0, all)?;
        if self.truncate_at.as_ref().is_some_and(String::is_empty) {
            return Err(TrainerError::Config {
                field: "truncate_at".into(),
                message: "is empty; leave it out to end completions at EOS alone".to_owned(),
            });
        }
        self.stop.check()?;
        in_range("kl_budget", self.kl_budget, 0.0, 1e9)?;
        in_range("gamma", self.gamma, 0.0, 1.0)?;
        in_range("lambda", self.lambda, 0.0, 1.0)?;
        in_range("clip", self.clip, 0.0, 10.0)?;
        in_range("value_clip", self.value_clip, 0.0, 1e9)?;
        if let EnsembleScore::Uncertainty { weight } = self.ensemble {
            in_range("ensemble.weight", weight, 0.0, 1e6)?;
        }
        in_range("missing_eos_penalty", self.missing_eos_penalty, -1e6, 1e6)?;
        in_range("ptx_coefficient", self.ptx_coefficient, 0.0, 1e4)?;
        in_range(
            "ptx_examples_per_episode",
            self.ptx_examples_per_episode,
            0.0,
            1e3,
        )?;
        in_range("ptx_tokens", self.ptx_tokens as f64, 2.0, 1e6)?;
        in_range("ema_decay", self.ema_decay, 0.0, 0.999_999)?;
        in_range(
            "evaluation_prompts",
            self.evaluation_prompts as f64,
            0.0,
            1e5,
        )?;
        in_range("keep_every", self.keep_every as f64, 1.0, 1e7)?;
        if self.keep == KeepPolicy::BestGold && self.evaluation_prompts == 0 {
            return Err(TrainerError::Config {
                field: "keep".into(),
                message: "compares policies by answers to evaluation prompts, but \
                          evaluation_prompts is 0"
                    .to_owned(),
            });
        }
        if let KlControl::Adaptive { target, horizon } = self.kl_control {
            in_range("kl_control.target", target, 1e-6, 1e9)?;
            // An error moves the weight by at most a fifth for each horizon; past 1 it would turn its
            // sign, and 0 would stay 0 for ever.
            let least = (0.2 * self.batch_episodes as f64).next_up();
            in_range("kl_control.horizon", horizon, least, 1e12)?;
            in_range("kl_coefficient", self.kl_coefficient, 1e-9, 100.0)?;
        }
        check_lora(self.lora.as_ref())?;
        check_memory(self.memory_limit_gib, &[("micro_rows", self.micro_rows)])?;
        check_schedule("schedule", &self.schedule)?;
        if let Some(schedule) = &self.value_schedule {
            check_schedule("value_schedule", schedule)?;
        }
        check_adam("policy_optimiser", &self.policy_optimiser)?;
        check_adam("value_optimiser", &self.value_optimiser)
    }
}
