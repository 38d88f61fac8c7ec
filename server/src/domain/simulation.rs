//! The hidden utility of simulated labelers, and how they err. It is stated here in full, so that
//! whoever trains on simulated rankings knows what a reward model could at best learn from them.
//!
//! The utility looks at what the text does, and only a little at how long it is, so that a reward
//! model which merely counts words loses against one which reads.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::Rng;

use crate::domain::ranking::{CandidateInput, RankingInput};

/// What the utility is made of, for `--help`.
pub const STATEMENT: &str = "utility = 1.0 x share of the prompt's content words that the completion uses \
     + 1.0 x distinct words / words + 1.5 if it ends with a full stop or the like \
     - 2.0 x share of repeated three-word phrases - 1.5 if it was cut off \
     + 0.25 x min(words, 60) / 60";

/// Words from which on more length is worth nothing.
const ENOUGH_WORDS: f64 = 60.0;

/// Shortest Latin word that counts as a content word, in letters.
const CONTENT_LETTERS: usize = 4;

/// Utilities closer than this are a tie.
const TIE: f64 = 1e-9;

/// The hidden utility of a completion for a prompt: about -3.5 to 4.
pub fn utility(prompt: &str, completion: &str, is_finished: bool) -> f64 {
    let words = words(completion);
    let n = words.len() as f64;
    if words.is_empty() {
        return -3.0;
    }
    let distinct = words.iter().collect::<HashSet<_>>().len() as f64 / n;
    let ends_well = completion
        .trim_end()
        .ends_with(['.', '!', '?', '。', '！', '？', '"', '”', ')', '`']);
    share_of_content_used(prompt, &words) + distinct + if ends_well { 1.5 } else { 0.0 }
        - 2.0 * share_of_repeated_phrases(&words)
        - if is_finished { 0.0 } else { 1.5 }
        + 0.25 * (n.min(ENOUGH_WORDS) / ENOUGH_WORDS)
}

/// Lower-case words; each Chinese character is a word of its own.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for letter in text.chars().flat_map(char::to_lowercase) {
        if is_ideograph(letter) {
            take_word(&mut word, &mut words);
            words.push(letter.to_string());
        } else if letter.is_alphanumeric() {
            word.push(letter);
        } else {
            take_word(&mut word, &mut words);
        }
    }
    take_word(&mut word, &mut words);
    words
}

fn take_word(word: &mut String, words: &mut Vec<String>) {
    if !word.is_empty() {
        words.push(std::mem::take(word));
    }
}

/// CJK unified ideographs, the block of everyday Chinese.
fn is_ideograph(letter: char) -> bool {
    ('\u{4E00}'..='\u{9FFF}').contains(&letter)
}

fn share_of_content_used(prompt: &str, words: &[String]) -> f64 {
    let is_content =
        |word: &String| word.chars().count() >= CONTENT_LETTERS || word.chars().any(is_ideograph);
    let content: BTreeSet<String> = self::words(prompt).into_iter().filter(is_content).collect();
    if content.is_empty() {
        return 0.0;
    }
    let used: BTreeSet<&String> = words
        .iter()
        .filter(|word| content.contains(*word))
        .collect();
    used.len() as f64 / content.len() as f64
}

fn share_of_repeated_phrases(words: &[String]) -> f64 {
    let mut seen = HashSet::new();
    let phrases = words.windows(3);
    let n = phrases.len();
    if n == 0 {
        return 0.0;
    }
    let repeated = phrases
        .filter(|phrase| !seen.insert(phrase.to_vec()))
        .count();
    repeated as f64 / n as f64
}

/// A simulated labeler's ranking of candidates with these utilities, given in the order shown.
/// Each pair is judged wrongly with probability `error_rate`; candidates are then ordered by the
/// pairs they won, equal numbers being ties. Ratings are septiles of the utility among `scale`,
/// which must be sorted; the worst septile is flagged as failing the instruction.
pub fn rank(utilities: &[f64], scale: &[f64], error_rate: f64, rng: &mut impl Rng) -> RankingInput {
    let wins = judge_pairs(utilities, error_rate, rng);
    let candidates = utilities.iter().zip(&wins).enumerate();
    let judge = |(index, (utility, own_wins)): (usize, (&f64, &u32))| {
        let better: BTreeSet<&u32> = wins.iter().filter(|other| *other > own_wins).collect();
        let rating = rating(*utility, scale);
        let mut flags = BTreeMap::new();
        if rating == 1 {
            flags.insert("fails_instruction".to_owned(), true);
        }
        CandidateInput {
            position: index + 1,
            rank: Some(better.len() as i16 + 1),
            rating: Some(rating),
            flags,
        }
    };
    RankingInput {
        candidates: candidates.map(judge).collect(),
        note: String::new(),
    }
}

/// How many pairs each candidate wins, twice counted so that a tie is one for each.
fn judge_pairs(utilities: &[f64], error_rate: f64, rng: &mut impl Rng) -> Vec<u32> {
    let mut wins = vec![0; utilities.len()];
    for first in 0..utilities.len() {
        for second in first + 1..utilities.len() {
            // The draw is made for ties too, so that one pair never shifts the draws of another.
            let errs = rng.random::<f64>() < error_rate;
            if (utilities[first] - utilities[second]).abs() < TIE {
                wins[first] += 1;
                wins[second] += 1;
            } else if (utilities[first] > utilities[second]) != errs {
                wins[first] += 2;
            } else {
                wins[second] += 2;
            }
        }
    }
    wins
}

/// 1 to 7 by the utility's place among `scale`; 4 where there is nothing to compare with.
fn rating(utility: f64, scale: &[f64]) -> i16 {
    if scale.is_empty() {
        return 4;
    }
    let below = scale.partition_point(|other| *other < utility);
    1 + (7 * below / scale.len()).min(6) as i16
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    const PROMPT: &str = "Name three uses of an empty glass jar.";

    #[test]
    fn an_answer_to_the_point_beats_a_longer_one_that_repeats_itself() {
        let good = "An empty glass jar holds pens, keeps spices dry, or becomes a vase.";
        let long = "I like it very much and I like it very much and ".repeat(6);
        assert!(utility(PROMPT, good, true) > utility(PROMPT, &long, true) + 1.0);
    }

    #[test]
    fn being_cut_off_costs_and_length_alone_decides_little() {
        let whole = "A glass jar can hold flowers.";
        let cut = "A glass jar can hold flowers";
        assert!(utility(PROMPT, whole, true) - utility(PROMPT, cut, false) > 1.7);
        let longer = "A glass jar can hold flowers upon your bright kitchen table today.";
        let gain = utility(PROMPT, longer, true) - utility(PROMPT, whole, true);
        assert!(gain.abs() < 0.1, "{gain}");
    }

    #[test]
    fn chinese_characters_count_as_words() {
        let on_topic = utility("请介绍北京的秋天。", "北京的秋天凉爽晴朗。", true);
        let off_topic = utility("请介绍北京的秋天。", "我喜欢吃苹果和梨子。", true);
        assert!(on_topic > off_topic + 0.5, "{on_topic} {off_topic}");
    }

    #[test]
    fn without_errors_the_ranks_follow_the_utility_and_ties_stay_ties() {
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        let utilities = [0.5, 2.0, -1.0, 2.0];
        let mut scale = utilities.to_vec();
        scale.sort_by(f64::total_cmp);
        let input = rank(&utilities, &scale, 0.0, &mut rng);
        let ranks: Vec<_> = input.candidates.iter().map(|item| item.rank).collect();
        assert_eq!(ranks, [Some(2), Some(1), Some(3), Some(1)]);
        assert_eq!(input.candidates[2].rating, Some(1));
        assert!(input.candidates[2].flags["fails_instruction"]);
        assert!(input.candidates[1].rating > input.candidates[0].rating);
    }

    #[test]
    fn two_candidates_are_swapped_at_the_error_rate() {
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        let swapped = (0..4000)
            .filter(|_| rank(&[1.0, 0.0], &[], 0.1, &mut rng).candidates[0].rank == Some(2))
            .count();
        // Binomial with mean 400 and standard deviation 19.
        assert!((324..=476).contains(&swapped), "{swapped}");
    }
}
