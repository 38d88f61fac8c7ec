//! What the checklist promises of single phases, on the tiny model of the fixtures.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::episode::{Episode, mean};
use super::learn::{Learning, Rates};
use super::stand::Stand;
use super::watch::Reason;
use crate::config::MissingEos;
use crate::error::TrainerError;
use crate::kl::KlEstimator;
use crate::optim::{AdamW, Gradients, values};
use crate::progress::Silent;
use crate::schedule::Schedule;
use crate::sft::add_gradient;

/// The optimisers' own rates.
const FULL: Rates = Rates {
    policy: 1.0,
    value: 1.0,
};

fn largest_gap(episodes: &[Episode]) -> f64 {
    let pairs = episodes
        .iter()
        .flat_map(|one| one.drawn.iter().zip(&one.old));
    pairs
        .map(|(drawn, old)| (drawn - old).abs())
        .fold(0.0, f64::max)
}

/// Items 22 and 24: what a token's probability was when it was drawn, with the cache and at the
/// temperature, is what the pass that trains says of it.
#[test]
fn log_probabilities_of_drawing_are_those_that_training_sees() {
    for temperature in [0.7, 1.0, 1.6] {
        let stand = Stand::new(|config| config.temperature = temperature);
        let mut learner = stand.learner();
        let mut episodes = stand.episodes(&learner, 16);
        assert!(episodes.iter().all(|one| one.drawn.len() == one.n));
        let gap = largest_gap(&episodes);
        assert!(gap < 1e-4, "{temperature}: {gap}");
        // The test can tell one temperature from another.
        let other = Stand::new(|config| config.temperature = temperature + 0.2);
        learner.config = &other.config;
        learner.appraise(&mut episodes, &mut Silent).unwrap();
        assert!(largest_gap(&episodes) > 0.01);
    }
}

/// Items 23 and 46: the mean log-probability of what is drawn is minus the entropy of the whole
/// distribution. The likeliest tokens alone, or a part of them as by top-p or top-k, have a higher one.
#[test]
fn rollouts_are_drawn_from_the_whole_distribution() {
    let stand = Stand::new(|config| {
        config.max_new_tokens = 1;
        config.temperature = 0.7;
    });
    let learner = stand.learner();
    let n = 4000;
    let chosen = vec![0; n];
    let drawn = learner.sample(&stand.prompts, &chosen, "rollout", 0, &mut Silent);
    let mut episodes = drawn.unwrap();
    let logs: Vec<f64> = episodes.iter().map(|one| one.drawn[0]).collect();
    episodes.truncate(1);
    learner.appraise(&mut episodes, &mut Silent).unwrap();
    let entropy = episodes[0].entropy[0];
    let average = mean(logs.iter().copied());
    let variance = mean(logs.iter().map(|log| (log - average).powi(2)));
    let error = (variance / n as f64).sqrt();
    assert!(variance > 1e-3, "the fixture is too flat for this test");
    let off = (average + entropy).abs() / error;
    assert!(
        off < 4.0,
        "{average} is {off} standard errors from -{entropy}"
    );
}

/// Item 24: old log-probabilities come from the pass that trains. Its ratio is 1 to the bit then;
/// those with the cache differ in some bit.
#[test]
fn the_ratio_is_one_to_the_bit_before_the_first_step() {
    let stand = Stand::new(|_| ());
    let learner = stand.learner();
    let episodes = stand.episodes(&learner, super::MICRO_ROWS);
    let views: Vec<&Episode> = episodes.iter().collect();
    let sums = learner
        .policy_gradient(&views, 1.0, &mut Gradients::default())
        .unwrap();
    assert_eq!((sums.lowest_ratio, sums.highest_ratio), (1.0, 1.0));
    assert!(largest_gap(&episodes) > 0.0);
    // Item 23: policy and reference are the same model.
    assert!(
        episodes
            .iter()
            .all(|one| one.kl().abs() < 1e-4 * one.n as f64)
    );
    // Item 44: nothing is clipped, and the loss is minus the mean advantage, which is 0.
    assert_eq!((sums.approximate_kl, sums.clipped), (0.0, 0.0));
    assert!((sums.loss / sums.tokens).abs() < 1e-9, "{}", sums.loss);
}

/// Several episodes of a prompt pass with it once: what everybody says of them, and what is learnt of
/// them, is what it is of each alone.
#[test]
fn episodes_that_share_their_prompt_are_what_each_is_alone() {
    let stand = Stand::new(|_| ());
    let mut learner = stand.learner();
    let drawn = stand.episodes(&learner, 7);
    let mut of = |micro_rows: usize| {
        learner.micro_rows = micro_rows;
        let mut episodes = drawn.clone();
        learner.appraise(&mut episodes, &mut Silent).unwrap();
        learner.credit(&mut episodes);
        let mut sums = [Gradients::default(), Gradients::default()];
        let views: Vec<&Episode> = episodes.iter().collect();
        for micro in views.chunks(micro_rows) {
            learner.policy_gradient(micro, 0.1, &mut sums[0]).unwrap();
            learner.value_gradient(micro, 0.1, &mut sums[1]).unwrap();
        }
        (episodes, sums)
    };
    let (together, alone) = (of(7), of(1));
    for (one, other) in together.0.iter().zip(&alone.0) {
        assert_eq!(one.old, other.old);
        assert_eq!(one.reference, other.reference);
        assert_eq!(one.values, other.values);
        assert_eq!(one.reward, other.reward);
    }
    let models = [&stand.models.policy, &stand.models.value.trunk];
    for ((one, other), model) in together.1.iter().zip(&alone.1).zip(models) {
        for name in model.weights().variables().keys() {
            let (one, other) = (one.get(name).unwrap(), other.get(name).unwrap());
            let largest = |tensor: &Tensor| -> f32 {
                let largest = tensor.abs().unwrap().max_all().unwrap();
                largest.to_scalar().unwrap()
            };
            let relative = largest(&(one - other).unwrap()) / largest(other);
            assert!(relative < 1e-5, "{name}: {relative:e}");
        }
    }
}

/// Item 43: where advantages are 0 the step is that of a language model whose gradient is gamma
/// times as large.
#[test]
fn a_step_by_the_pretraining_gradient_alone_is_a_plain_step_times_gamma() {
    let stand = Stand::new(|config| {
        config.ptx_coefficient = 27.8;
        config.ptx_examples_per_episode = 0.75;
        config.minibatches = 1;
        // Or its length would not matter.
        config.policy_optimiser.max_grad_norm = 0.0;
    });
    let mut learner = stand.learner();
    let mut episodes = stand.episodes(&learner, 8);
    for episode in &mut episodes {
        episode.advantages.fill(0.0);
    }
    let policy = &stand.models.policy;
    let before = values(policy.weights().variables());
    let before: BTreeMap<String, Tensor> = before
        .into_iter()
        .map(|(name, tensor)| (name, tensor.copy().unwrap()))
        .collect();
    let (rows, pad) = (&stand.texts.learnt, stand.codec.pad_id);
    let n: usize = rows.iter().map(|row| row.tokens.len() - row.start).sum();
    let mut plain = Gradients::default();
    let weight = 1.0 / n as f64;
    let loss = add_gradient(policy, rows, pad, weight, &mut plain).unwrap();

    let mut added = Gradients::default();
    let told = learner.text_gradient(8, &mut added, &Silent).unwrap();
    assert!(
        (told.unwrap() - loss).abs() < 1e-5 * loss,
        "{told:?} {loss}"
    );
    for name in policy.weights().variables().keys() {
        let (plain, added) = (plain.get(name).unwrap(), added.get(name).unwrap());
        let expected = (plain * 27.8).unwrap();
        let off = largest(&(added - &expected).unwrap()) / largest(&expected);
        assert!(off < 1e-5, "{name}: {off:e}");
    }

    learner.next_text = 0;
    let mut learning = Learning::new(episodes);
    learner.learn(&mut learning, 0, FULL, &mut Silent).unwrap();
    let after = policy.weights().tensors().clone();
    // The plain step from the same weights, by a fresh optimiser.
    let other = Stand::new(|_| ());
    let variables = other.models.policy.weights().variables();
    for (name, tensor) in &before {
        assert_eq!(
            largest(&(tensor - variables[name].as_tensor()).unwrap()),
            0.0
        );
    }
    let mut times_gamma = Gradients::default();
    add_gradient(
        &other.models.policy,
        rows,
        pad,
        27.8 * weight,
        &mut times_gamma,
    )
    .unwrap();
    let mut optimiser = AdamW::new(stand.config.policy_optimiser.clone());
    optimiser.step(variables, &times_gamma, 1.0).unwrap();
    for (name, variable) in variables {
        let moved = (variable.as_tensor() - &before[name]).unwrap();
        let off = largest(&(&after[name] - variable.as_tensor()).unwrap());
        assert!(
            largest(&moved) > 0.0 && off < 1e-3 * largest(&moved),
            "{name}: {off:e}"
        );
    }
}

fn largest(tensor: &Tensor) -> f32 {
    let largest = tensor.abs().unwrap().max_all().unwrap();
    largest.to_scalar().unwrap()
}

/// Item 4: what was drawn after the text that ends completions reaches nothing, and item 8: the
/// reward model still reads its score at EOS.
#[test]
fn a_completion_ends_at_the_text_that_ends_it_once_it_is_long_enough() {
    let stand = Stand::new(|config| {
        config.max_new_tokens = 12;
        config.truncate_after = 3;
    });
    let mut learner = stand.learner();
    let chosen: Vec<usize> = (0..64).map(|index| index % 4).collect();
    let sample = |learner: &super::Learner| {
        let drawn = learner.sample(&stand.prompts, &chosen, "rollout", 0, &mut Silent);
        drawn.unwrap()
    };
    let whole = sample(&learner);
    // A token that stands in many of them, early and late.
    let eos = stand.codec.eos_id;
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for token in whole.iter().flat_map(|one| one.completion()) {
        *counts.entry(*token).or_default() += 1;
    }
    counts.remove(&eos);
    let token = counts.into_iter().max_by_key(|(_, n)| *n).unwrap().0;
    learner.truncate_at = Some(token);
    let mut n_cut = 0;
    for (cut, whole) in sample(&learner).iter().zip(&whole) {
        let (cut_tokens, all) = (cut.completion(), whole.completion());
        assert_eq!(cut_tokens, &all[..cut.n]);
        assert_eq!(cut.drawn, whole.drawn[..cut.n]);
        let end = all.iter().skip(3).position(|other| *other == token);
        match end {
            Some(place) => {
                assert_eq!((cut.n, cut.is_finished), (3 + place + 1, true));
                assert_eq!(cut.tokens.len(), cut.start + cut.n + 1);
                n_cut += 1;
            }
            None => assert_eq!((cut.n, cut.is_finished), (whole.n, whole.is_finished)),
        }
        assert_eq!(cut.tokens.last(), Some(&eos));
    }
    assert!(n_cut > 0);
}

/// Items 5 and 30: one completion with EOS and one without, whose scores are clipped first.
#[test]
fn a_missing_eos_costs_in_either_way_after_the_score_was_clipped() {
    for (way, clip) in [
        (MissingEos::Replace, 0.0),
        (MissingEos::Subtract, 0.0),
        (MissingEos::Replace, 0.01),
        (MissingEos::Subtract, 0.01),
    ] {
        let stand = Stand::new(|config| {
            config.missing_eos = way;
            config.missing_eos_penalty = 1.5;
            config.reward_clip = clip;
        });
        let learner = stand.learner();
        let eos = stand.codec.eos_id;
        let prompt = &stand.prompts[0];
        let mut both = vec![
            Episode::new(prompt, &[9, 10, eos], true, eos),
            Episode::new(prompt, &[9, 10], false, eos),
        ];
        learner.appraise(&mut both, &mut Silent).unwrap();
        // The reward model reads the same tokens.
        let reward = both[0].reward;
        assert!((reward - both[1].reward).abs() < 1e-6 && reward.abs() > 0.01);
        let clipped = match clip > 0.0 {
            true => clip.copysign(reward),
            false => reward,
        };
        assert!((both[0].score - clipped).abs() < 1e-6);
        let expected = match way {
            MissingEos::Replace => -1.5,
            MissingEos::Subtract => clipped - 1.5,
        };
        assert!((both[1].score - expected).abs() < 1e-6);
    }
}

/// Items 25 and 26: by each estimator, with and without a clamp.
#[test]
fn the_rewards_of_an_episode_are_its_score_less_its_penalties() {
    for (estimator, clamp) in [
        (KlEstimator::K1, 0.0),
        (KlEstimator::K2, 0.0),
        (KlEstimator::K3, 0.0),
        (KlEstimator::K1, 0.05),
    ] {
        let stand = Stand::new(|config| {
            config.kl_estimator = estimator;
            config.kl_clamp = clamp;
            config.kl_coefficient = 0.3;
        });
        let learner = stand.learner();
        let mut episodes = stand.episodes(&learner, 8);
        for episode in &mut episodes {
            for (index, reference) in episode.reference.iter_mut().enumerate() {
                *reference += 0.1 * index as f64 - 0.2;
            }
        }
        learner.credit(&mut episodes);
        for episode in &episodes {
            let sum: f64 = episode.rewards.iter().sum();
            let penalties = episode.log_ratios().map(|d| estimator.of(d, clamp));
            let expected = episode.score - 0.3 * penalties.sum::<f64>();
            assert!((sum - expected).abs() < 1e-9, "{estimator:?}");
        }
    }
}

/// Item 53: a minibatch that is not finite, after others that were.
#[test]
fn numbers_that_are_not_finite_end_the_run_with_the_policy_as_it_was() {
    let stand = Stand::new(|config| {
        config.ema_decay = 0.9;
        config.minibatches = 4;
    });
    let spoil: [fn(&mut Episode); 2] = [
        |episode| episode.advantages[0] = f64::NAN,
        |episode| episode.returns[0] = f64::INFINITY,
    ];
    for spoil in spoil {
        let mut learner = stand.learner();
        let clean = stand.episodes(&learner, 8);
        let copy = |tensors: &BTreeMap<String, Tensor>| -> Vec<Vec<f32>> {
            let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
            tensors.values().map(flat).collect()
        };
        let policy = || copy(&values(stand.models.policy.weights().variables()));
        let (before, average) = (policy(), copy(learner.average.as_ref().unwrap().values()));
        let mut episodes = clean;
        spoil(&mut episodes[3]);
        let good = learner.keep().unwrap();
        let mut learning = Learning::new(episodes);
        let mut again = learning.clone();
        let stopped = learner.learn_or_go_back(&mut learning, &good, 1, FULL, &mut Silent);
        let stop = stopped.unwrap().err().unwrap();
        assert_eq!(stop.reason, Reason::Divergence);
        assert!(
            stop.sentence.contains("in iteration 2"),
            "{}",
            stop.sentence
        );
        assert_eq!(policy(), before);
        assert_eq!(copy(learner.average.as_ref().unwrap().values()), average);
        // The first iteration has nothing to end with.
        let error = learner.learn_or_go_back(&mut again, &good, 0, FULL, &mut Silent);
        assert!(matches!(error, Err(TrainerError::Diverged(_))));
    }
}

/// Item 37: while the policy waits only the value model learns.
#[test]
fn a_policy_that_waits_stays_as_it_is_while_the_value_model_learns() {
    let stand = Stand::new(|config| {
        config.policy_waits = 2;
        config.schedule = Schedule::Linear { floor: 0.0 };
    });
    let mut learner = stand.learner();
    let sum = |tensors: BTreeMap<String, Tensor>| -> f32 {
        let sums = tensors
            .values()
            .map(|tensor| tensor.abs().unwrap().sum_all().unwrap());
        sums.map(|sum| sum.to_scalar::<f32>().unwrap()).sum()
    };
    let policy = || sum(values(stand.models.policy.weights().variables()));
    let value = || sum(values(stand.models.value.trunk.weights().variables()));
    for iteration in 0..3 {
        let mut learning = Learning::new(stand.episodes(&learner, 8));
        let (policy_before, value_before) = (policy(), value());
        let figures = learner
            .learn(&mut learning, iteration, FULL, &mut Silent)
            .unwrap();
        let waits = iteration < 2;
        assert_eq!(figures.policy.is_none(), waits);
        assert_eq!(figures.text_loss.is_none(), waits);
        assert_eq!(policy() == policy_before, waits);
        assert!(value() != value_before);
    }
}

/// Item 53: the passes over a round's episodes end once the policy is far from the one that drew
/// them.
#[test]
fn passes_end_at_their_target() {
    let passes = |target: f64| {
        let stand = Stand::new(|config| {
            config.inner_epochs = 5;
            config.approximate_kl_target = target;
        });
        let mut learner = stand.learner();
        let mut learning = Learning::new(stand.episodes(&learner, 8));
        let figures = learner.learn(&mut learning, 0, FULL, &mut Silent).unwrap();
        figures.passes
    };
    assert_eq!(passes(0.0), 5);
    assert_eq!(passes(1e-9), 1);
    let some = [3e-3, 1e-2, 3e-2, 1e-1].map(passes);
    assert!(some.is_sorted(), "{some:?}");
    assert!(
        some.iter().any(|passes| (2..5).contains(passes)),
        "{some:?}"
    );
}
