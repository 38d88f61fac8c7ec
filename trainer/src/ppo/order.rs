//! Which prompts come next: each once in a pass, in an order of its own for each pass.

use std::iter::repeat_n;
use std::ops::Range;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::config::PpoConfig;
use crate::rng::stream;

/// The place among the prompts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PromptOrder {
    /// Passes that were begun.
    passes: u64,
    /// Prompts of this pass that are still to come.
    left: Vec<usize>,
}

impl PromptOrder {
    /// The prompt of each episode of the next batch, several times in a row where several completions
    /// of each are drawn.
    pub(super) fn next_batch(&mut self, config: &PpoConfig, prompts: &Range<usize>) -> Vec<usize> {
        let samples = config.samples_per_prompt;
        let own = self.next(config.batch_episodes / samples, prompts, config.seed);
        let own = own.into_iter();
        own.flat_map(|prompt| repeat_n(prompt, samples)).collect()
    }

    /// The next `n` of `prompts`. They come back only when all have been used.
    pub(super) fn next(&mut self, n: usize, prompts: &Range<usize>, seed: u64) -> Vec<usize> {
        while self.left.len() < n {
            let mut all: Vec<usize> = prompts.clone().collect();
            all.shuffle(&mut stream(seed, "prompts", self.passes));
            self.left.extend(all);
            self.passes += 1;
        }
        self.left.drain(..n).collect()
    }

    /// Whether every prompt that is still to come is below `n`.
    pub(super) fn is_within(&self, n: usize) -> bool {
        self.left.iter().all(|index| *index < n)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Preset;

    /// Item 48 of the checklist: batches of 7 of 20 prompts, whatever batch a pass ends in.
    #[test]
    fn no_prompt_comes_twice_before_all_had_their_turn() {
        let mut order = PromptOrder::default();
        let drawn: Vec<usize> = (0..20).flat_map(|_| order.next(7, &(5..25), 3)).collect();
        let passes: Vec<&[usize]> = drawn.chunks(20).collect();
        assert_eq!(passes.len(), 7);
        for pass in &passes {
            let different: BTreeSet<usize> = pass.iter().copied().collect();
            assert_eq!(different, (5..25).collect());
        }
        assert!(passes.windows(2).all(|two| two[0] != two[1]));
    }

    #[test]
    fn several_completions_of_a_prompt_stand_together_and_leave_the_order_as_it_is() {
        let config = |batch_episodes, samples_per_prompt| PpoConfig {
            batch_episodes,
            samples_per_prompt,
            ..PpoConfig::preset(Preset::Tiny)
        };
        let (mut one, mut three) = (PromptOrder::default(), PromptOrder::default());
        for _ in 0..5 {
            let single = one.next_batch(&config(4, 1), &(0..10));
            let several = three.next_batch(&config(12, 3), &(0..10));
            let expected: Vec<usize> = single.iter().flat_map(|index| [*index; 3]).collect();
            assert_eq!(several, expected);
        }
    }

    /// Item 48: the place is part of a savepoint.
    #[test]
    fn an_order_that_was_kept_goes_on_where_it_was() {
        let (mut straight, mut stopped) = (PromptOrder::default(), PromptOrder::default());
        for _ in 0..10 {
            let text = serde_json::to_string(&stopped).unwrap_or_default();
            stopped = serde_json::from_str(&text).unwrap_or_default();
            assert_eq!(straight.next(7, &(0..20), 3), stopped.next(7, &(0..20), 3));
        }
        assert!(stopped.is_within(20));
        assert!(
            !PromptOrder {
                passes: 1,
                left: vec![20]
            }
            .is_within(20)
        );
    }
}
