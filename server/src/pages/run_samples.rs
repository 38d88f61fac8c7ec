//! The samples of a run's page: prompts with what was answered before and after training.

use crate::store::run_events::RunEvent;
use crate::web::text_view::{Conversation, TextView};

/// A prompt with what was answered before and after training.
#[derive(Default)]
pub struct Sample {
    /// The prompt, as people wrote it. Older runs of PPO kept a text that the chat template had been put
    /// around; it is shown as it is.
    pub prompt: Conversation,
    /// The answer before training.
    pub before: Option<Answer>,
    /// The answer after it; the only one of a run that trains nothing.
    pub after: Option<Answer>,
}

/// One completion to look at.
pub struct Answer {
    /// Its text.
    pub text: TextView,
    /// What the reward model says of it.
    pub reward: Option<String>,
    /// What the second opinion says of it.
    pub gold: Option<String>,
    /// How far the policy strayed in it.
    pub kl: Option<String>,
    /// Whether the limit ended it.
    pub is_cut_off: bool,
}

/// Puts answers to the same prompt side by side. Answers without a moment (of a generation run)
/// stand alone, as answers after.
pub fn pair(events: &[RunEvent]) -> Vec<Sample> {
    let mut samples: Vec<(Option<i64>, Sample)> = Vec::new();
    for event in events {
        let data = &event.data["data"];
        let index = data["prompt_index"].as_i64();
        let known = samples
            .iter()
            .position(|(known, _)| index.is_some() && *known == index);
        let place = known.unwrap_or_else(|| {
            let prompt = Conversation::new(&data["prompt"], None);
            samples.push((
                index,
                Sample {
                    prompt,
                    ..Sample::default()
                },
            ));
            samples.len() - 1
        });
        let number = |name: &str| data[name].as_f64().map(|value| format!("{value:.3}"));
        let answer = Answer {
            text: TextView::new(data["completion"].as_str().unwrap_or_default(), None),
            reward: number("reward"),
            gold: number("gold"),
            kl: number("kl"),
            is_cut_off: data["is_finished"].as_bool() == Some(false),
        };
        match data["moment"].as_str() {
            Some("before") => samples[place].1.before = Some(answer),
            _ => samples[place].1.after = Some(answer),
        }
    }
    samples.into_iter().map(|(_, sample)| sample).collect()
}
