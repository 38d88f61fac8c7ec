//! Named sets of settings.

use serde::{Deserialize, Serialize};

use super::sources::Kind;

/// A named set of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Seconds on a tiny model, for tests.
    Tiny,
    /// Minutes for SmolLM2-135M on two CPU cores, by training the upper layers only.
    Demo,
    /// The constants of the paper: for SFT those of the start of PPO (C.3), with the dropout of C.1,
    /// and with 10 % of pretraining data where texts are given. For DPO, which came later, those of
    /// its own paper (Rafailov et al., arXiv 2305.18290).
    Instructgpt,
    /// Summaries of posts with the constants of vwxyzjn/summarize_from_feedback_details (Huang et
    /// al., arXiv 2403.17031). What differs: there prompts are learnt in fine-tuning too, a post
    /// that is too long is cut at a paragraph (here it is left out), and the score of a completion
    /// without EOS comes one token later. For DPO, as its own paper summarises posts.
    Summarize,
    /// Continuations in a style with the constants of openai/lm-human-preferences (Ziegler et al.,
    /// arXiv 1909.08593). It starts from a language model as it is: there is no fine-tuning, and no DPO. What
    /// differs: there the reward model's scores are also scaled to deviation 1 (here only shifted
    /// to mean 0, as InstructGPT does, so a KL weight means less than there), the value model is a
    /// head on the policy's own trunk with a weight of 0.1, tokens after `truncate_at` are learnt
    /// with their KL (here they count for nothing), and whitening is over each process's rows.
    LmHumanPreferences,
}

impl Preset {
    /// Every preset, smallest first.
    pub const ALL: [Self; 5] = [
        Self::Tiny,
        Self::Demo,
        Self::Instructgpt,
        Self::Summarize,
        Self::LmHumanPreferences,
    ];

    /// Whether it says how a run of that kind is done.
    pub fn defines(self, kind: Kind) -> bool {
        !(self == Self::LmHumanPreferences && matches!(kind, Kind::Sft | Kind::Dpo))
    }

    /// The word on the command line and in forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Demo => "demo",
            Self::Instructgpt => "instructgpt",
            Self::Summarize => "summarize",
            Self::LmHumanPreferences => "lm-human-preferences",
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.as_str() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::as_str).join(", ");
                format!("unknown preset {text:?}: use one of {names}")
            })
    }
}
