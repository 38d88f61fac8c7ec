//! Few-shot demonstrations: pairs of query and response under an instruction, recombined into examples.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trainer::records::Message as Turn;

/// Fewest and most pairs of a few-shot demonstration.
pub const PAIRS: std::ops::RangeInclusive<usize> = 2..=10;

/// A query with its response, of a few-shot demonstration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// What is asked under the instruction.
    #[serde(default)]
    pub query: String,
    /// The answer to it.
    #[serde(default)]
    pub response: String,
}

impl Pair {
    /// A pair with nothing in it is none.
    pub fn is_blank(&self) -> bool {
        self.query.trim().is_empty() && self.response.trim().is_empty()
    }
}

/// A turn of a conversation.
pub(super) fn turn(role: &str, content: String) -> Turn {
    Turn {
        role: role.to_owned(),
        content,
    }
}

/// K examples out of K pairs (InstructGPT, appendix A.3): in the k-th the last turn of the user is the
/// k-th query, which the k-th response answers, and the other K - 1 pairs stand before it as turns of the
/// conversation, the instruction above the first of them.
///
/// The order of the pairs in context is drawn anew for each example by ChaCha12, seeded with the SHA-256
/// of `seed`: in one order, a model could learn from the place of a pair instead of from what it says.
pub fn recombine(instruction: &str, pairs: &[Pair], seed: &[u8]) -> Vec<Vec<Turn>> {
    let mut rng = ChaCha12Rng::from_seed(Sha256::digest(seed).into());
    let example = |index: usize| {
        let mut order: Vec<usize> = (0..pairs.len()).filter(|other| *other != index).collect();
        order.shuffle(&mut rng);
        order.push(index);
        let mut turns = Vec::with_capacity(2 * pairs.len());
        for place in order {
            let query = match turns.is_empty() {
                true => format!("{instruction}\n\n{}", pairs[place].query),
                false => pairs[place].query.clone(),
            };
            turns.push(turn("user", query));
            turns.push(turn("assistant", pairs[place].response.clone()));
        }
        turns
    };
    (0..pairs.len()).map(example).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;
    use trainer::records::{DemonstrationRecord, Record};

    use super::*;

    fn pair(query: &str, response: &str) -> Pair {
        Pair {
            query: query.to_owned(),
            response: response.to_owned(),
        }
    }

    proptest! {
        #[test]
        fn each_query_is_asked_last_once_with_all_other_pairs_before_it(
            texts in proptest::collection::vec(("[a-zא-ת一-三]{1,8}", "[a-z ]{0,5}[a-z]"), 2..=10),
            seed in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            // Numbered, so that equal texts stay different pairs.
            let pairs: Vec<Pair> = texts
                .iter()
                .enumerate()
                .map(|(index, (query, response))| pair(&format!("{index} {query}"), &format!("{response} {index}")))
                .collect();
            let examples = recombine("Do as shown.", &pairs, &seed);
            prop_assert_eq!(examples.len(), pairs.len());
            prop_assert_eq!(&examples, &recombine("Do as shown.", &pairs, &seed));
            for (asked, turns) in pairs.iter().zip(&examples) {
                let record = DemonstrationRecord { id: "x".to_owned(), messages: turns.clone(), writing: None };
                prop_assert_eq!(record.complaint(), None);
                let first = turns[0].content.strip_prefix("Do as shown.\n\n").unwrap();
                let mut shown: Vec<Pair> = turns
                    .chunks(2)
                    .map(|both| pair(&both[0].content, &both[1].content))
                    .collect();
                shown[0].query = first.to_owned();
                prop_assert_eq!(shown.last(), Some(asked));
                let mut sorted = shown.clone();
                sorted.sort_by_key(|pair| pairs.iter().position(|other| other == pair));
                prop_assert_eq!(&sorted, &pairs);
            }
        }
    }

    #[test]
    fn the_order_in_context_differs_between_examples_and_seeds() {
        let pairs: Vec<Pair> = (0..8)
            .map(|n| pair(&format!("q{n}"), &format!("a{n}")))
            .collect();
        let orders = |seed: &[u8]| -> Vec<Vec<String>> {
            recombine("i", &pairs, seed)
                .iter()
                .map(|turns| {
                    turns[..14]
                        .iter()
                        .map(|turn| turn.content.clone())
                        .collect()
                })
                .collect()
        };
        let one = orders(b"one");
        assert_ne!(one, orders(b"two"));
        let ascending = |turns: &Vec<String>| turns.windows(3).all(|three| three[0] < three[2]);
        assert!(!one.iter().all(ascending));
    }
}
