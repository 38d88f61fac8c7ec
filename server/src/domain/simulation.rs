//! The hidden utility of simulated labelers, and how they err. It is stated here in full, so that
//! whoever trains on simulated rankings knows what a reward model could at best learn from them.
//!
//! It counts defects that the guidelines name and that anybody sees in the text, all with the same
//! weight. None of them is length, so a reward model that merely counts words loses against one
//! that reads.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::Rng;

use crate::domain::form::Form;
use crate::domain::ranking::{CandidateInput, RankingInput};

/// What the utility is made of, for `--help`.
pub const STATEMENT: &str = "utility = minus the sum of four defects, each from 0 to 1: \
     it leaves the subject (1 when it uses none of the prompt's content words, 0 when it uses half \
     or more); it talks of itself (1 when a tenth or more of its words are I, me, my and the like); \
     it repeats itself (1 when half or more of its three-word phrases came before); it breaks off \
     (1 when it does not end like a sentence). An empty completion has all four";

/// Share of the prompt's content words from which on a completion keeps to the subject.
const ON_SUBJECT: f64 = 0.5;

/// Share of words in the first person from which on a completion talks of nothing but itself.
const ALL_OF_ITSELF: f64 = 0.1;

/// Share of repeated three-word phrases from which on a completion only repeats itself.
const ALL_REPEATED: f64 = 0.5;

/// Words in the first person, in English and Chinese.
const FIRST_PERSON: [&str; 8] = ["i", "me", "my", "mine", "myself", "am", "we", "我"];

/// What a sentence ends with, quotes and brackets included.
const ENDS: [char; 12] = [
    '.', '!', '?', '。', '！', '？', '"', '”', ')', '）', '」', '`',
];

/// Shortest Latin word that counts as a content word, in letters.
const CONTENT_LETTERS: usize = 4;

/// The flag that simulated labelers answer where a form has it.
const FAILS: &str = "fails_instruction";

/// Parts of the scale of utilities, the worst of which fails the instruction.
const SEPTILES: usize = 7;

/// Utilities closer than this are a tie.
const TIE: f64 = 1e-9;

/// The hidden utility of a completion for a prompt: -4, the worst, to 0.
pub fn utility(prompt: &str, completion: &str) -> f64 {
    let words = words(completion);
    if words.is_empty() {
        return -4.0;
    }
    let degree = |share: f64, full: f64| (share / full).min(1.0);
    let is_first_person = |word: &&String| FIRST_PERSON.contains(&word.as_str());
    let of_itself = words.iter().filter(is_first_person).count() as f64 / words.len() as f64;
    let off_subject = 1.0 - degree(share_of_content_used(prompt, &words), ON_SUBJECT);
    let breaks_off = !completion.trim_end().ends_with(ENDS);
    -(off_subject
        + degree(of_itself, ALL_OF_ITSELF)
        + degree(share_of_repeated_phrases(&words), ALL_REPEATED)
        + f64::from(u8::from(breaks_off)))
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
/// pairs they won, equal numbers being ties. Overall ratings are the place of the utility among
/// `scale`, which must be sorted, in as many equal parts as the form's scale has values: septiles for
/// 1 to 7. Where the form asks whether a candidate fails the instruction, the worst septile does and
/// the others do not; whether that is answered wrongly is drawn with the error rate, too. Everything
/// else that a form may ask is left open.
pub fn rank(
    utilities: &[f64],
    scale: &[f64],
    form: &Form,
    error_rate: f64,
    rng: &mut impl Rng,
) -> RankingInput {
    let wins = judge_pairs(utilities, error_rate, rng);
    let candidates = utilities.iter().zip(&wins).enumerate();
    let mut judge = |(index, (utility, own_wins)): (usize, (&f64, &u32))| {
        let better: BTreeSet<&u32> = wins.iter().filter(|other| *other > own_wins).collect();
        let mut flags = BTreeMap::new();
        if form.has_flag(FAILS) {
            let errs = rng.random::<f64>() < error_rate;
            let fails = !scale.is_empty() && part(*utility, scale, SEPTILES) == 0;
            flags.insert(FAILS.to_owned(), fails != errs);
        }
        CandidateInput {
            position: index + 1,
            rank: Some(better.len() as i16 + 1),
            rating: Some(rating(*utility, scale, form)),
            flags,
            ..Default::default()
        }
    };
    let candidates: Vec<CandidateInput> = candidates.map(&mut judge).collect();
    RankingInput {
        strength: strength(utilities, scale, &candidates),
        candidates,
        ..Default::default()
    }
}

/// How much better the preferred one of two is: the further apart their septiles are, the more. None of a
/// tie, or of more than two.
fn strength(utilities: &[f64], scale: &[f64], candidates: &[CandidateInput]) -> Option<i16> {
    let ([first, second], [one, other]) = (candidates, utilities) else {
        return None;
    };
    let septile = |utility: &f64| part(*utility, scale, SEPTILES);
    let gap = septile(one).abs_diff(septile(other));
    (first.rank != second.rank).then_some(match gap {
        0 => 1,
        1 => 2,
        2 | 3 => 3,
        _ => 4,
    })
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

/// The quality that Crowd-BT can at best tell of a labeler of this error rate: of the pairs that [`rank`] orders
/// strictly, the share it orders rightly, over tasks whose candidates have these utilities. None where nothing is
/// ordered.
///
/// Of two candidates it is 1 - e. Of more, a candidate's place comes from all its pairs, each judged by itself:
///
/// quality = sum of P(the better one wins more pairs) / sum of P(they win different numbers of pairs)
///
/// over all pairs, where one of equal worth, which errors in other pairs part, counts as half right. Both chances
/// are exact: the difference of pairs won is a sum of independent judgements.
pub fn expected_quality(tasks: &[Vec<f64>], error_rate: f64) -> Option<f64> {
    let (mut right, mut ordered) = (0.0, 0.0);
    for utilities in tasks {
        for first in 0..utilities.len() {
            for second in first + 1..utilities.len() {
                let (ahead, behind) = chances(utilities, (first, second), error_rate);
                ordered += ahead + behind;
                right += match worth(utilities[first], utilities[second]) {
                    Ordering::Greater => ahead,
                    Ordering::Less => behind,
                    Ordering::Equal => (ahead + behind) / 2.0,
                };
            }
        }
    }
    (ordered > 0.0).then_some(right / ordered)
}

/// How probably the first of a pair wins more pairs than the second, and the other way round.
fn chances(utilities: &[f64], (first, second): (usize, usize), error_rate: f64) -> (f64, f64) {
    let n = utilities.len();
    // By twice the difference of pairs won, from -2n; at first it is 0.
    let mut differences = vec![0.0; 4 * n + 1];
    differences[2 * n] = 1.0;
    let mut judge = |one: usize, other: usize, step: isize| {
        let is_won = match worth(utilities[one], utilities[other]) {
            Ordering::Greater => 1.0 - error_rate,
            Ordering::Less => error_rate,
            Ordering::Equal => return,
        };
        let before = std::mem::replace(&mut differences, vec![0.0; 4 * n + 1]);
        for (place, chance) in before.into_iter().enumerate() {
            for (step, share) in [(step, is_won), (-step, 1.0 - is_won)] {
                let to = place.checked_add_signed(step);
                if let Some(sum) = to.and_then(|to| differences.get_mut(to)) {
                    *sum += chance * share;
                }
            }
        }
    };
    // Their own pair parts them by two halves of a win each; one with a third candidate by half of that.
    judge(first, second, 2);
    for other in (0..n).filter(|other| ![first, second].contains(other)) {
        judge(first, other, 1);
        judge(second, other, -1);
    }
    let ahead = differences[2 * n + 1..].iter().sum();
    let behind = differences[..2 * n].iter().sum();
    (ahead, behind)
}

/// Which of two utilities is the greater; those nearer to each other than [`TIE`] are equal.
fn worth(one: f64, other: f64) -> Ordering {
    match (one - other).abs() < TIE {
        true => Ordering::Equal,
        false => one.total_cmp(&other),
    }
}

/// The form's overall rating by the utility's place among `scale`.
fn rating(utility: f64, scale: &[f64], form: &Form) -> i16 {
    let (low, high) = (i32::from(form.overall.min), i32::from(form.overall.max));
    let parts = usize::try_from(high - low + 1).unwrap_or(1);
    let rating = low + part(utility, scale, parts) as i32;
    rating.min(high) as i16
}

/// Which of so many equal parts of `scale` a utility falls in, from 0; the middle one where there is
/// nothing to compare with.
fn part(utility: f64, scale: &[f64], parts: usize) -> usize {
    let last = parts.saturating_sub(1);
    if scale.is_empty() {
        return last / 2;
    }
    // The middle of those with the same utility, of which there are many without any defect.
    let below = scale.partition_point(|other| *other < utility);
    let up_to = scale.partition_point(|other| *other <= utility);
    (parts * (below + up_to) / (2 * scale.len())).min(last)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    const PROMPT: &str = "Name uses of an empty glass jar.";

    fn assert_utility(completion: &str, expected: f64) {
        let found = utility(PROMPT, completion);
        assert!((found - expected).abs() < 1e-9, "{completion}: {found}");
    }

    #[test]
    fn each_defect_costs_one() {
        let good = "An empty glass jar holds pens, keeps spices dry, or becomes a vase.";
        assert_utility(good, 0.0);
        assert_utility(good.trim_end_matches('.'), -1.0);
        // Two of its four content words are half of them: still on the subject.
        assert_utility("Any empty glass becomes a vase.", 0.0);
        assert_utility("Pens, dry spices, flowers.", -1.0);
        assert_utility(&format!("{good} I like my own!"), -1.0);
        assert_utility("An empty glass. ".repeat(9).trim_end(), -1.0);
        assert_utility("", -4.0);
    }

    #[test]
    fn length_alone_is_worth_nothing() {
        let short = utility(PROMPT, "An empty glass jar holds pens.");
        let long = "An empty glass jar holds pens upon your bright kitchen table every single day.";
        assert_eq!(short, utility(PROMPT, long));
    }

    #[test]
    fn chinese_characters_count_as_words() {
        let on_topic = utility("请介绍北京的秋天。", "北京的秋天凉爽晴朗。");
        let off_topic = utility("请介绍北京的秋天。", "我喜欢吃苹果和梨子。");
        assert!(on_topic > off_topic + 0.5, "{on_topic} {off_topic}");
    }

    #[test]
    fn without_errors_the_ranks_follow_the_utility_and_ties_stay_ties() {
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        let utilities = [0.5, 2.0, -1.0, 2.0];
        let mut scale = utilities.to_vec();
        scale.sort_by(f64::total_cmp);
        let input = rank(&utilities, &scale, &Form::default(), 0.0, &mut rng);
        let ranks: Vec<_> = input.candidates.iter().map(|item| item.rank).collect();
        assert_eq!(ranks, [Some(2), Some(1), Some(3), Some(1)]);
        assert_eq!(input.candidates[2].rating, Some(1));
        let fails: Vec<bool> = input
            .candidates
            .iter()
            .map(|item| item.flags[FAILS])
            .collect();
        assert_eq!(fails, [false, false, true, false]);
        assert!(input.candidates[1].rating > input.candidates[0].rating);
    }

    #[test]
    fn a_comparison_of_two_says_how_much_better_and_a_tie_does_not() {
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        let scale: Vec<f64> = (0..14).map(f64::from).collect();
        let form = Form::default();
        let mut strength =
            |utilities: &[f64]| rank(utilities, &scale, &form, 0.0, &mut rng).strength;
        assert_eq!(strength(&[0.0, 13.0]), Some(4));
        assert_eq!(strength(&[13.0, 12.5]), Some(1));
        assert_eq!(strength(&[5.0, 5.0]), None);
        assert_eq!(strength(&[0.0, 4.0, 8.0, 13.0]), None);
    }

    #[test]
    fn what_is_said_fits_any_form() {
        let scale: Vec<f64> = (0..100).map(f64::from).collect();
        let mut form = Form::default();
        (form.overall.min, form.overall.max) = (-1, 3);
        let mut rng = ChaCha12Rng::seed_from_u64(7);
        let utilities = [0.0, 30.0, 50.0, 99.0];
        let ratings = |input: &RankingInput| -> Vec<Option<i16>> {
            input.candidates.iter().map(|item| item.rating).collect()
        };
        let input = rank(&utilities, &scale, &form, 0.0, &mut rng);
        assert_eq!(ratings(&input), [Some(-1), Some(0), Some(1), Some(3)]);
        assert_eq!(input.complaints(4, &form).len(), 0);
        // Without the flag it is not answered.
        form.flags.retain(|flag| flag.key != FAILS);
        let input = rank(&utilities, &scale, &form, 0.0, &mut rng);
        assert!(input.candidates.iter().all(|item| item.flags.is_empty()));
        assert_eq!(input.complaints(4, &form).len(), 0);
        // With nothing to compare with, the middle.
        let input = rank(&utilities, &[], &form, 0.0, &mut rng);
        assert_eq!(ratings(&input), [Some(1); 4]);
    }

    #[test]
    fn a_flag_is_answered_wrongly_at_the_error_rate() {
        let mut rng = ChaCha12Rng::seed_from_u64(9);
        let scale: Vec<f64> = (0..14).map(f64::from).collect();
        let form = Form::default();
        let wrong = (0..2000)
            .map(|_| {
                let input = rank(&[0.0, 13.0], &scale, &form, 0.2, &mut rng);
                let said = [0, 1].map(|place| input.candidates[place].flags[FAILS]);
                usize::from(!said[0]) + usize::from(said[1])
            })
            .sum::<usize>();
        // Binomial with mean 800 and standard deviation 25.
        assert!((700..=900).contains(&wrong), "{wrong}");
    }

    #[test]
    fn two_candidates_are_swapped_at_the_error_rate() {
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        let form = Form::default();
        let swapped = (0..4000)
            .filter(|_| {
                let input = rank(&[1.0, 0.0], &[], &form, 0.1, &mut rng);
                input.candidates[0].rank == Some(2)
            })
            .count();
        // Binomial with mean 400 and standard deviation 19.
        assert!((324..=476).contains(&swapped), "{swapped}");
    }

    #[test]
    fn the_quality_to_expect_is_the_share_of_ordered_pairs_that_are_right() {
        let near = |found: Option<f64>, expected: f64, within: f64| {
            let found = found.unwrap_or(f64::NAN);
            assert!(
                (found - expected).abs() < within,
                "{found} is not {expected}"
            );
        };
        for error_rate in [0.0, 0.1, 0.4, 0.5] {
            near(
                expected_quality(&[vec![1.0, 0.0]], error_rate),
                1.0 - error_rate,
                1e-12,
            );
        }
        assert_eq!(expected_quality(&[vec![1.0, 1.0], vec![0.5]], 0.2), None);
        // Of three there are eight ways to judge the pairs; counted by hand, with one error in five.
        near(
            expected_quality(&[vec![2.0, 1.0, 0.0]], 0.2),
            2.112 / 2.52,
            1e-9,
        );
        // As often as labelers are right, a pair of equal worth being half right.
        let tasks = vec![
            vec![0.0, -1.0, -0.3, -0.3, -2.0],
            vec![-0.5, 0.0, -0.5, -0.5],
        ];
        let mut rng = ChaCha12Rng::seed_from_u64(11);
        let (mut right, mut ordered) = (0.0, 0.0);
        for _ in 0..20_000 {
            for utilities in &tasks {
                let wins = judge_pairs(utilities, 0.2, &mut rng);
                for first in 0..wins.len() {
                    for second in first + 1..wins.len() {
                        if wins[first] == wins[second] {
                            continue;
                        }
                        ordered += 1.0;
                        right += match worth(utilities[first], utilities[second]) {
                            Ordering::Equal => 0.5,
                            truth => f64::from(u8::from(truth == wins[first].cmp(&wins[second]))),
                        };
                    }
                }
            }
        }
        near(expected_quality(&tasks, 0.2), right / ordered, 0.005);
    }
}
