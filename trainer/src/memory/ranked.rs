//! The estimates of runs over rankings, whose prompts are in memory once for all their completions.

use std::ops::Range;

use super::network::{Network, Rows};
use super::runs::{
    SHORTER, SMALLER_MODEL, checking, gradients, loading, merging, moments, part, program, saving,
    working,
};
use super::{Estimate, LOWER_CACHE_BYTES, Part};
use crate::config::{DpoConfig, RewardConfig};
use crate::model::transformer_config::TransformerConfig;
use crate::reward::passes::{Bundle, passes};

/// The lengths of a ranking's rows, in tokens.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// What its rows have in common at their beginning.
    pub common: usize,
    /// Each row, that beginning included.
    pub rows: Vec<usize>,
    /// Tokens of all rows that are learnt one by one.
    pub learnt: usize,
}

impl Ranked {
    /// Tokens of some of its rows that pass together.
    fn tokens(&self, rows: Range<usize>) -> usize {
        let (n, common) = (rows.len(), self.common);
        let all: usize = self.rows[rows].iter().sum();
        match n {
            0 | 1 => all,
            n => all - (n - 1) * common,
        }
    }

    /// Of all of them.
    fn all(&self) -> usize {
        self.tokens(0..self.rows.len())
    }
}

/// The lengths of the rows of rankings.
pub struct RankedRows {
    /// Of each ranking.
    pub rankings: Vec<Ranked>,
    /// Tokens of the other rows that are scored: demonstrations.
    pub others: usize,
}

/// The passes of rankings, at most `rows` rows in each.
fn batches(rankings: &[&Ranked], rows: usize) -> Vec<Rows> {
    let sizes = rankings.iter().map(|ranked| ranked.rows.len());
    let pass = |pass: Vec<Bundle>| {
        let tokens = |bundle: &Bundle| rankings[bundle.group].tokens(bundle.rows.clone());
        let n = pass.iter().map(|bundle| bundle.rows.len()).sum();
        Rows::sharing(n, pass.iter().map(tokens).sum())
    };
    passes(sizes, rows).into_iter().map(pass).collect()
}

impl RankedRows {
    /// The rankings, those of most tokens first.
    fn largest_first(&self) -> Vec<&Ranked> {
        let mut rankings: Vec<&Ranked> = self.rankings.iter().collect();
        rankings.sort_by_key(|ranked| std::cmp::Reverse(ranked.all()));
        rankings
    }

    /// The passes of `prompts` rankings that share a backward pass, at worst.
    fn worst(&self, prompts: usize, rows: usize) -> Vec<Rows> {
        let rankings: Vec<&Ranked> = self.largest_first().into_iter().take(prompts).collect();
        batches(&rankings, rows)
    }

    /// The rankings that share a backward pass, at worst: that of most tokens, or several that have no
    /// more than `rows` rows together, the largest first.
    fn worst_within(&self, rows: usize) -> Vec<&Ranked> {
        let rankings = self.largest_first();
        let alone: Vec<&Ranked> = rankings.iter().take(1).copied().collect();
        let (mut together, mut n) = (Vec::new(), 0);
        for ranked in rankings {
            if n + ranked.rows.len() <= rows {
                n += ranked.rows.len();
                together.push(ranked);
            }
        }
        let tokens = |rankings: &[&Ranked]| rankings.iter().map(|one| one.all()).sum::<usize>();
        match tokens(&together) > tokens(&alone) {
            true => together,
            false => alone,
        }
    }

    /// Tokens of everything, in passes of at most `rows` rows.
    fn tokens(&self, rows: usize) -> usize {
        let rankings: Vec<&Ranked> = self.rankings.iter().collect();
        let tokens = batches(&rankings, rows).into_iter().map(|rows| rows.tokens);
        tokens.sum::<usize>() + self.others
    }

    fn lengths(&self) -> impl Iterator<Item = usize> {
        self.rankings
            .iter()
            .flat_map(|ranked| &ranked.rows)
            .copied()
    }

    fn longest(&self) -> usize {
        self.lengths().max().unwrap_or(0)
    }
}

/// The output of frozen blocks for so many tokens of rankings, kept while there is room.
fn kept_outputs(network: &Network, tokens: usize) -> Part {
    let numbers = match network.n_frozen_blocks() {
        0 => 0,
        _ => tokens * network.config.hidden_size,
    };
    let outputs = part("kept outputs of frozen layers", numbers, "fewer rankings");
    Part {
        bytes: outputs.bytes.min(LOWER_CACHE_BYTES as u64),
        ..outputs
    }
}

/// What is there while passes share a backward pass.
fn training(
    network: &Network,
    batches: &[Rows],
    kept: usize,
    learnt: usize,
    recomputes: bool,
) -> Vec<Part> {
    let trained = network.trained();
    let work = batches.iter();
    let work = work.map(|rows| working(network, *rows, learnt, recomputes));
    [
        gradients(trained, trained),
        part("activations", kept, SHORTER),
    ]
    .into_iter()
    .chain(work.max_by_key(|part| part.bytes))
    .collect()
}

/// A reward model over rankings of these lengths, `prompts` of which share a backward pass.
pub fn reward(
    config: &TransformerConfig,
    settings: &RewardConfig,
    data: &RankedRows,
    prompts: usize,
    rows: usize,
    recomputes: bool,
) -> Estimate {
    let network = Network {
        config,
        trainable: settings.trainable(),
        heads: settings.members,
        lora: settings.lora.as_ref(),
    };
    let trained = network.trained();
    let batches = data.worst(prompts.min(settings.batch_prompts), rows);
    let kept = batches.iter();
    let kept = kept
        .map(|rows| network.pass(*rows, true, recomputes))
        .fold(0, usize::saturating_add);
    let always = [
        part("weights", network.weights(), SMALLER_MODEL),
        moments(trained),
        kept_outputs(&network, data.tokens(rows)),
        program(config),
    ];
    let training = training(&network, &batches, kept, 0, recomputes);
    // The model that is trained afterwards waits meanwhile.
    let mut validating = training.clone();
    validating.push(part(
        "the model that waits",
        network.weights(),
        SMALLER_MODEL,
    ));
    let mut phases = vec![
        ("training", training),
        saving(trained, network.largest_trained(), 0),
        checking(&network, data.longest(), recomputes),
        loading(&network),
        merging(&network),
    ];
    if settings.cross_validation_folds > 0 {
        phases.push(("cross-validating", validating));
    } else if settings.labeler_folds > 0 {
        phases.push(("measuring held-out labelers", validating));
    }
    Estimate::highest(&always, phases)
}

/// Direct preference optimisation, `rows` completions at a time. The reference is the policy before
/// its first step, asked once, so that only what it said takes memory of its own.
pub fn dpo(
    config: &TransformerConfig,
    settings: &DpoConfig,
    data: &RankedRows,
    rows: usize,
    recomputes: bool,
) -> Estimate {
    let network = Network {
        config,
        trainable: settings.trainable(),
        heads: 0,
        lora: None,
    };
    let trained = network.trained();
    let worst = data.worst_within(rows);
    let n: usize = worst.iter().map(|ranked| ranked.learnt).sum();
    let batches = batches(&worst, rows);
    let passes = batches.iter();
    let passes = passes
        .map(|rows| network.pass(*rows, false, recomputes))
        .fold(0, usize::saturating_add);
    // What is read of several passes is put side by side.
    let read = match batches.len() {
        1 => 4 * n,
        _ => 5 * n,
    };
    let kept = passes.saturating_add(read.saturating_mul(config.hidden_size));
    // A log-probability of each completion in double precision, once more for savepoints.
    let said = 2 * 2 * data.lengths().count();
    let always = [
        part("weights", network.weights(), SMALLER_MODEL),
        moments(trained),
        kept_outputs(&network, data.tokens(rows)),
        part("what the reference said", said, "fewer rankings"),
        program(config),
    ];
    let phases = vec![
        (
            "training",
            training(&network, &batches, kept, n, recomputes),
        ),
        saving(trained, network.largest_trained(), 0),
        checking(&network, data.longest(), recomputes),
        loading(&network),
    ];
    Estimate::highest(&always, phases)
}
