//! The table itself. A column that is empty says that the paper's source holds there too. `Tiny` and
//! `Demo` share a column, which is read where their value is not the paper's.

use super::super::Preset;

/// A setting and where each preset has its value from.
pub(super) struct Row {
    pub(super) setting: &'static str,
    instructgpt: &'static str,
    small: &'static str,
    summarize: &'static str,
    lm_human_preferences: &'static str,
}

impl Row {
    pub(super) fn source(&self, preset: Preset) -> &'static str {
        let own = match preset {
            Preset::Instructgpt => self.instructgpt,
            Preset::Tiny | Preset::Demo => self.small,
            Preset::Summarize => self.summarize,
            Preset::LmHumanPreferences => self.lm_human_preferences,
        };
        if own.is_empty() {
            self.instructgpt
        } else {
            own
        }
    }
}

/// Setting; sources of instructgpt, of tiny and demo, of summarize, of lm-human-preferences.
const fn row(setting: &'static str, sources: [&'static str; 4]) -> Row {
    let [instructgpt, small, summarize, lm_human_preferences] = sources;
    Row {
        setting,
        instructgpt,
        small,
        summarize,
        lm_human_preferences,
    }
}

/// The same for every preset.
const fn same(setting: &'static str, source: &'static str) -> Row {
    row(setting, [source, "", "", ""])
}

const OURS: &str = "ours";
const SPEED: &str = "ours, for speed at small scale";
const SUMMARIZE: &str = "arXiv 2403.17031, hyperparameters";
const LHP: &str = "openai/lm-human-preferences";
const LHP_STYLE: &str = "openai/lm-human-preferences, style tasks";
const TORCH: &str = "torch's own (arXiv 2403.17031 names no other)";
const TENSORFLOW: &str = "TensorFlow's own (openai/lm-human-preferences names no other)";
const NO_DECAY: &str = "openai/lm-human-preferences: Adam without decay";
const C_1K: &str = "InstructGPT C: at most 1k";
const NO_CLIPPING: &str = "no clipping there";
const PLACEMENT: &str = "InstructGPT prints none; torch's";
const DECAY: &str = "InstructGPT prints none; 0";
const CLIPPING: &str = "InstructGPT prints none; OpenRLHF";
const EPSILON: &str = "InstructGPT prints none; openai/lm-human-preferences";
const LAYERS: &str = "InstructGPT trains all layers";
const LORA: &str = "not in InstructGPT, which prints none; off (arXiv 2106.09685; where it is on, rank 8 \
                    from PEFT, alpha 16 and all projections from QLoRA, arXiv 2305.14314)";
const MOMENTS: &str = "InstructGPT C: beta1 0.9, beta2 0.95";
const COSINE_SFT: &str = "InstructGPT C.3: cosine to 10 %; warm-up not printed (C.1: none)";
const COSINE: &str = "InstructGPT C.2: cosine to 10 %; warm-up not printed";
const COSINE_TO_0: &str = "arXiv 2403.17031, hyperparameters: cosine";
const LINEAR: &str = "openai/lm-human-preferences: linear to 0";

pub(super) const SFT: &[Row] = &[
    same("seed", OURS),
    row(
        "learn",
        [
            "InstructGPT 3.5: demonstrations; whether prompts are learnt is not printed",
            "",
            "ours: answers only (summarize_from_feedback_details learns the prompts too)",
            "",
        ],
    ),
    row("train_layers", [LAYERS, SPEED, "", ""]),
    same("lora", LORA),
    row(
        "epochs",
        [
            "InstructGPT C.3: 2 for the start of PPO",
            SPEED,
            SUMMARIZE,
            "",
        ],
    ),
    row(
        "batch_size",
        ["InstructGPT C.3: 1.3B and 6B", SPEED, SUMMARIZE, ""],
    ),
    row(
        "max_tokens",
        [
            "InstructGPT C: context of 2k",
            SPEED,
            "summarize_from_feedback_details: its data sets",
            "",
        ],
    ),
    row(
        "pack_tokens",
        [
            "ours: the same gradient without padding",
            SPEED,
            "none there",
            "",
        ],
    ),
    row(
        "dropout",
        [
            "InstructGPT C.1 (C.3 prints none)",
            SPEED,
            "summarize_from_feedback_details: none",
            "",
        ],
    ),
    row(
        "pretraining_share",
        [
            "InstructGPT C.3; that tokens are counted is ours",
            "",
            "no pretraining data there",
            "",
        ],
    ),
    row("pretraining_tokens", [OURS, SPEED, "", ""]),
    same("held_out_share", OURS),
    same(
        "keep",
        "ours (InstructGPT C.1 chooses SFT models by reward, not the start of PPO)",
    ),
    row("reward_prompts", [OURS, SPEED, "", ""]),
    row("reward_tokens", [OURS, SPEED, "", ""]),
    same("memory_limit_gib", OURS),
    same("recompute_activations", OURS),
    same("micro_rows", OURS),
    row(
        "optimiser.learning_rate",
        ["InstructGPT C.3: 1.3B", SPEED, SUMMARIZE, ""],
    ),
    row("optimiser.beta1", [MOMENTS, "", TORCH, ""]),
    row("optimiser.beta2", [MOMENTS, "", TORCH, ""]),
    row("optimiser.epsilon", [EPSILON, "", SUMMARIZE, ""]),
    row("optimiser.epsilon_placement", [PLACEMENT, "", TORCH, ""]),
    row("optimiser.weight_decay", [DECAY, "", TORCH, ""]),
    row("optimiser.max_grad_norm", [CLIPPING, "", NO_CLIPPING, ""]),
    row("schedule", [COSINE_SFT, "", COSINE_TO_0, ""]),
];

pub(super) const REWARD: &[Row] = &[
    same("seed", OURS),
    row("train_layers", [LAYERS, SPEED, "", ""]),
    same("lora", LORA),
    row(
        "epochs",
        [
            "InstructGPT C.2: several overfit",
            "ours; for demo see docs/first-run.md",
            SUMMARIZE,
            LHP,
        ],
    ),
    row(
        "batch_prompts",
        ["InstructGPT C.2", SPEED, SUMMARIZE, LHP_STYLE],
    ),
    row(
        "max_tokens",
        [
            "InstructGPT C: context of 2k",
            SPEED,
            "summarize_from_feedback_details: its data sets",
            "openai/lm-human-preferences: 64 of the prompt, 24 of the completion, and EOS",
        ],
    ),
    same("held_out_share", OURS),
    row(
        "cross_validation_folds",
        [
            "ours; off (InstructGPT E.2 has 5, by labelers)",
            "ours: few rankings",
            "",
            "",
        ],
    ),
    same(
        "members",
        "InstructGPT has one head (Christiano et al. 2017 have an ensemble of 3)",
    ),
    same("labeler_folds", "ours; off (InstructGPT E.2 has 5)"),
    same("shuffle", OURS),
    row(
        "loss.model",
        [
            "InstructGPT 3.5: strict pairs",
            "",
            "arXiv 2403.17031: pairs",
            "openai/lm-human-preferences: the choice of the best of 4, which is what this one is where \
             the others are tied",
        ],
    ),
    same(
        "loss.label_noise",
        "not in InstructGPT; off (Christiano et al. 2017 have 0.1)",
    ),
    same(
        "loss.rating_margin",
        "not in InstructGPT; off (Llama 2 has margins)",
    ),
    same(
        "loss.centring",
        "not in InstructGPT; off (TRL suggests 0.01)",
    ),
    same("memory_limit_gib", OURS),
    same("recompute_activations", OURS),
    same("micro_rows", OURS),
    same("micro_prompts", OURS),
    row(
        "optimiser.learning_rate",
        ["InstructGPT C.2", SPEED, SUMMARIZE, LHP_STYLE],
    ),
    row("optimiser.beta1", [MOMENTS, "", TORCH, TENSORFLOW]),
    row("optimiser.beta2", [MOMENTS, "", TORCH, TENSORFLOW]),
    row("optimiser.epsilon", [EPSILON, "", SUMMARIZE, LHP]),
    row(
        "optimiser.epsilon_placement",
        [PLACEMENT, "", TORCH, TENSORFLOW],
    ),
    row("optimiser.weight_decay", [DECAY, "", TORCH, NO_DECAY]),
    row(
        "optimiser.max_grad_norm",
        [CLIPPING, "", NO_CLIPPING, NO_CLIPPING],
    ),
    row("schedule", [COSINE, "", COSINE_TO_0, LINEAR]),
];

const EPISODES: &str =
    "summarize_from_feedback_details: a million episodes in batches of 512, rounded down";
const EPISODES_UP: &str =
    "openai/lm-human-preferences: a million episodes in batches of 512, rounded up";

pub(super) const PPO: &[Row] = &[
    same("seed", OURS),
    row("train_layers", [LAYERS, SPEED, "", ""]),
    same("lora", LORA),
    row(
        "iterations",
        [
            "InstructGPT C.4: 256,000 episodes",
            SPEED,
            EPISODES,
            EPISODES_UP,
        ],
    ),
    row(
        "batch_episodes",
        ["InstructGPT C.4", SPEED, SUMMARIZE, LHP_STYLE],
    ),
    row(
        "samples_per_prompt",
        ["InstructGPT C.4", "", SUMMARIZE, LHP],
    ),
    row(
        "minibatches",
        ["InstructGPT C.4: of 64 episodes", SPEED, SUMMARIZE, LHP],
    ),
    row("inner_epochs", ["InstructGPT C.4", "", SUMMARIZE, LHP]),
    row(
        "max_new_tokens",
        [C_1K, SPEED, "summarize_from_feedback_details", LHP_STYLE],
    ),
    row(
        "max_prompt_tokens",
        [
            C_1K,
            SPEED,
            "summarize_from_feedback_details (which cuts a longer post; here it is left out)",
            LHP_STYLE,
        ],
    ),
    row("temperature", ["InstructGPT C.4", "", SUMMARIZE, LHP_STYLE]),
    row(
        "kl_coefficient",
        ["InstructGPT C.4", "", SUMMARIZE, LHP_STYLE],
    ),
    row(
        "kl_control",
        [
            "InstructGPT C.4: fixed",
            "",
            "arXiv 2403.17031: fixed",
            "openai/lm-human-preferences, style tasks: adaptive",
        ],
    ),
    row(
        "kl_estimator",
        [
            "InstructGPT prints none; openai/lm-human-preferences",
            "",
            "summarize_from_feedback_details",
            LHP,
        ],
    ),
    same("kl_clamp", "off (OpenRLHF has 10)"),
    row("kl_budget", [OURS, "ours, for small models", "", ""]),
    row(
        "gamma",
        ["InstructGPT C.4: no discount", "", SUMMARIZE, LHP],
    ),
    row(
        "lambda",
        [
            "InstructGPT prints none; openai/lm-human-preferences",
            "",
            SUMMARIZE,
            LHP,
        ],
    ),
    row("clip", ["InstructGPT C.4", "", SUMMARIZE, LHP]),
    same("log_ratio_clamp", "off (OpenRLHF has 20)"),
    same("approximate_kl_target", "ours; off"),
    row(
        "value_clip",
        [
            "InstructGPT prints none; openai/lm-human-preferences",
            "",
            SUMMARIZE,
            LHP,
        ],
    ),
    same(
        "ensemble",
        "not in InstructGPT; of an ensemble the mean (arXiv 2310.02743 has others)",
    ),
    same("reward_clip", "off (DeepSpeed-Chat has 5, OpenRLHF 10)"),
    row(
        "whiten_rewards",
        [
            "InstructGPT prints none; off, as in openai/lm-human-preferences for summaries",
            "",
            "summarize_from_feedback_details",
            LHP_STYLE,
        ],
    ),
    row(
        "whiten_advantages",
        [
            "InstructGPT prints none; summarize_from_feedback_details",
            "",
            "summarize_from_feedback_details",
            LHP,
        ],
    ),
    row(
        "truncate_at",
        [
            "off: completions end with EOS",
            "",
            "",
            "openai/lm-human-preferences, style tasks: token 13 of GPT-2; that nothing after it counts is \
             ours",
        ],
    ),
    row(
        "truncate_after",
        ["off: completions end with EOS", "", "", LHP_STYLE],
    ),
    row(
        "missing_eos",
        [
            "InstructGPT prints none; openai/lm-human-preferences",
            "ours: small models rarely end within the limit",
            "summarize_from_feedback_details",
            LHP,
        ],
    ),
    row(
        "missing_eos_penalty",
        [
            "InstructGPT prints none; openai/lm-human-preferences",
            "ours: small models rarely end within the limit",
            "summarize_from_feedback_details",
            LHP,
        ],
    ),
    row(
        "ptx_coefficient",
        [
            "InstructGPT C.4: gamma",
            "ours: DeepSpeed-Chat's authors found 27.8 unstable",
            "no pretraining term there",
            "no pretraining term there",
        ],
    ),
    row(
        "ptx_examples_per_episode",
        ["InstructGPT C.4", SPEED, "", ""],
    ),
    row("ptx_tokens", [OURS, SPEED, "", ""]),
    row("held_out_texts", [OURS, SPEED, "", ""]),
    row("text_loss_every", [OURS, SPEED, "", ""]),
    row(
        "policy_optimiser.learning_rate",
        [
            "InstructGPT prints none; ours, below the 8.05e-6 of E.9",
            SPEED,
            SUMMARIZE,
            LHP_STYLE,
        ],
    ),
    row("policy_optimiser.beta1", [MOMENTS, "", TORCH, TENSORFLOW]),
    row("policy_optimiser.beta2", [MOMENTS, "", TORCH, TENSORFLOW]),
    row("policy_optimiser.epsilon", [EPSILON, "", SUMMARIZE, LHP]),
    row(
        "policy_optimiser.epsilon_placement",
        [PLACEMENT, "", TORCH, TENSORFLOW],
    ),
    row(
        "policy_optimiser.weight_decay",
        [DECAY, "", TORCH, NO_DECAY],
    ),
    row(
        "policy_optimiser.max_grad_norm",
        [CLIPPING, "", NO_CLIPPING, NO_CLIPPING],
    ),
    row(
        "value_optimiser.learning_rate",
        [
            "InstructGPT C.4",
            SPEED,
            SUMMARIZE,
            "openai/lm-human-preferences: one optimiser for both",
        ],
    ),
    row("value_optimiser.beta1", [MOMENTS, "", TORCH, TENSORFLOW]),
    row("value_optimiser.beta2", [MOMENTS, "", TORCH, TENSORFLOW]),
    row("value_optimiser.epsilon", [EPSILON, "", SUMMARIZE, LHP]),
    row(
        "value_optimiser.epsilon_placement",
        [PLACEMENT, "", TORCH, TENSORFLOW],
    ),
    row("value_optimiser.weight_decay", [DECAY, "", TORCH, NO_DECAY]),
    row(
        "value_optimiser.max_grad_norm",
        [CLIPPING, "", NO_CLIPPING, NO_CLIPPING],
    ),
    row(
        "schedule",
        [
            "InstructGPT C.4: constant after 10 iterations from a tenth",
            SPEED,
            "arXiv 2403.17031, hyperparameters: linear",
            LINEAR,
        ],
    ),
    row(
        "value_schedule",
        [
            "InstructGPT C.4: a fixed rate",
            "ours: that of the policy",
            "arXiv 2403.17031: one optimiser for both",
            "openai/lm-human-preferences: one optimiser for both",
        ],
    ),
    same("policy_waits", "off (OpenRLHF's freezing steps)"),
    row(
        "ema_decay",
        [
            "InstructGPT C.4; for each step of the optimiser, which is not printed",
            "ours: the average of a short run would undo it",
            "no average of weights there",
            "no average of weights there",
        ],
    ),
    same("memory_limit_gib", OURS),
    same("recompute_activations", OURS),
    same("micro_rows", OURS),
    same("keep", "ours (InstructGPT prints no choice among policies)"),
    same("keep_every", OURS),
    row("evaluation_prompts", [OURS, SPEED, "", ""]),
    same("stop.reward_drop", OURS),
    row(
        "stop.eos_floor",
        [
            OURS,
            "ours: small models rarely end within the limit",
            "",
            "",
        ],
    ),
    same("stop.spread_floor", OURS),
    same("stop.patience", OURS),
    row("token_samples", [OURS, SPEED, "", ""]),
    row("token_samples_every", [OURS, SPEED, "", ""]),
];

const DPO_B: &str = "DPO paper (arXiv 2305.18290), appendix B";

/// DPO is not in InstructGPT: the paper of the first column is its own.
pub(super) const DPO: &[Row] = &[
    same("seed", OURS),
    row("train_layers", ["DPO paper: all layers", SPEED, "", ""]),
    row(
        "epochs",
        [
            "not in the DPO paper; 1 as InstructGPT C.2 has for a reward model",
            SPEED,
            "",
            "",
        ],
    ),
    row(
        "batch_prompts",
        [
            "DPO paper, appendix B: 64 pairs; that all pairs of a prompt count as one is InstructGPT's 3.5",
            SPEED,
            "",
            "",
        ],
    ),
    row(
        "max_tokens",
        [
            "not in the DPO paper; InstructGPT C: context of 2k",
            SPEED,
            "not in the DPO paper; summarize_from_feedback_details: its data sets",
            "",
        ],
    ),
    same("held_out_share", OURS),
    row(
        "beta",
        [DPO_B, "", "DPO paper, appendix B: 0.5 for summaries", ""],
    ),
    same("loss", "DPO paper, equation 7"),
    same("memory_limit_gib", OURS),
    same("recompute_activations", OURS),
    same("micro_rows", OURS),
    row("optimiser.learning_rate", [DPO_B, SPEED, "", ""]),
    same("optimiser.beta1", DPO_MOMENTS),
    same("optimiser.beta2", DPO_MOMENTS),
    same(
        "optimiser.epsilon",
        "not in the DPO paper; openai/lm-human-preferences",
    ),
    same(
        "optimiser.epsilon_placement",
        "not in the DPO paper; torch's",
    ),
    same("optimiser.weight_decay", "not in the DPO paper; 0"),
    same("optimiser.max_grad_norm", "not in the DPO paper; OpenRLHF"),
    row(
        "schedule",
        [
            "DPO paper, appendix B: constant after 150 steps from 0",
            SPEED,
            "",
            "",
        ],
    ),
];

const DPO_MOMENTS: &str =
    "not in the DPO paper, which has RMSprop; InstructGPT C: Adam's 0.9 and 0.95";
