//! The estimate of each kind of run: what is always there, and what comes on top in each phase.

use super::network::{Network, Rows};
use super::{Estimate, JUDGED_ROWS, Part};
use crate::config::{Keep, KeepPolicy, PpoConfig, SftConfig};
use crate::generate::{READ_AT_ONCE, ROWS_AT_ONCE, cache_pages};
use crate::model::lora::LoraConfig;
use crate::model::token_log_probs::CHUNK;
use crate::model::transformer_config::TransformerConfig;
use crate::model::weights::Trainable;

const F32: u64 = size_of::<f32>() as u64;

/// The program, its threads and buffers before any model is loaded (measured: 20 to 40 MiB).
const PROGRAM: u64 = 32 << 20;
/// What a tokenizer takes for each token that it knows (measured: SmolLM2's 49,152 take about
/// 30 MiB with their merges).
const TOKEN: u64 = 640;

pub(super) const SMALLER_MODEL: &str = "a smaller model";
const FEWER_LAYERS: &str = "training fewer layers (train_layers) or adapters (lora.rank)";
pub(super) const SHORTER: &str =
    "shorter rows (max_tokens, max_prompt_tokens, max_new_tokens, ptx_tokens)";
const FEWER_ANSWERS: &str = "shorter sampled answers (reward_tokens)";
const FEWER_EPISODES: &str = "fewer or shorter episodes (batch_episodes, max_new_tokens)";

pub(super) fn part(name: &'static str, numbers: usize, remedy: &'static str) -> Part {
    Part {
        name,
        bytes: (numbers as u64).saturating_mul(F32),
        remedy,
    }
}

pub(super) fn program(config: &TransformerConfig) -> Part {
    Part {
        name: "program and tokenizer",
        bytes: PROGRAM + config.vocab_size as u64 * TOKEN,
        remedy: SMALLER_MODEL,
    }
}

/// Both moments of every number that learns.
pub(super) fn moments(trained: usize) -> Part {
    part("optimiser moments", 2 * trained, FEWER_LAYERS)
}

/// A file is read whole before its tensors are made. It holds no adapters.
pub(super) fn loading(network: &Network) -> (&'static str, Vec<Part>) {
    let file = part("the model's file", network.base(), SMALLER_MODEL);
    ("loading the model", vec![file])
}

/// A checkpoint holds the matrices that have an adapter with it added.
pub(super) fn merging(network: &Network) -> (&'static str, Vec<Part>) {
    let merged = part("merged weights", network.merged(), FEWER_LAYERS);
    ("writing the checkpoint", vec![merged])
}

/// A savepoint copies the moments, and one tensor at a time on the way to the disk.
pub(super) fn saving(
    trained: usize,
    largest: usize,
    gradients: usize,
) -> (&'static str, Vec<Part>) {
    let parts = vec![
        part(
            "copies for the savepoint",
            2 * trained + 2 * largest,
            FEWER_LAYERS,
        ),
        part("gradients", gradients, FEWER_LAYERS),
    ];
    ("keeping a savepoint", parts)
}

/// The sums of all micro-batches (`sums` numbers), and beside them those of one.
pub(super) fn gradients(sums: usize, own: usize) -> Part {
    part("gradients", sums + own, FEWER_LAYERS)
}

/// What the backward pass works with besides gradients, for a loss over `n` tokens' probabilities
/// (0: a loss over scores). `passing` are the rows that pass together.
///
/// Logits, and the gradient of a projection to the vocabulary that learns, are there before any other
/// gradient.
pub(super) fn working(network: &Network, passing: Rows, n: usize, recomputes: bool) -> Part {
    let block = network.backward_of_block(passing, recomputes);
    let logits = n.min(CHUNK) * network.config.vocab_size;
    let projection = match network.trains_projection() && n > 0 {
        true => network.vocabulary(),
        false => 0,
    };
    let before = (logits + projection).saturating_sub(network.trained());
    part("work of the backward pass", block.max(before), SHORTER)
}

/// What a pass keeps for a loss over the probabilities of `n` of its tokens.
fn activations(network: &Network, rows: Rows, n: usize, recomputes: bool) -> usize {
    let read = n.saturating_mul(4 * network.config.hidden_size);
    network.pass(rows, false, recomputes).saturating_add(read)
}

/// The check that padding changes nothing passes two rows with history.
pub(super) fn checking(
    network: &Network,
    time: usize,
    recomputes: bool,
) -> (&'static str, Vec<Part>) {
    checking_of(network, Rows::new(2, time + 7), recomputes)
}

fn checking_of(network: &Network, rows: Rows, recomputes: bool) -> (&'static str, Vec<Part>) {
    let kept = network.pass(rows, false, recomputes);
    let again = match recomputes {
        true => network.block_pass(rows),
        false => 0,
    };
    let kept = kept.saturating_add(again);
    ("checking", vec![part("activations", kept, SHORTER)])
}

/// What a fine-tuning run reads.
pub struct Demonstrations<'a> {
    /// Tokens of the longest.
    pub longest: usize,
    /// Tokens of its longest answer.
    pub learnt: usize,
    /// Tokens of the longest ones that a batch can hold.
    pub batch: usize,
    /// The reward model that judges answers after each epoch.
    pub judge: Option<&'a TransformerConfig>,
}

/// Supervised fine-tuning, `rows` demonstrations at a time; where they are packed, rows of so many
/// tokens.
pub fn sft(
    config: &TransformerConfig,
    settings: &SftConfig,
    data: &Demonstrations,
    rows: usize,
    recomputes: bool,
) -> Estimate {
    let network = Network {
        config,
        trainable: settings.trainable(),
        heads: 0,
        lora: settings.lora.as_ref(),
    };
    let trained = network.trained();
    let (micro, n) = match settings.pack_tokens {
        Some(_) => {
            // One that is longer than the limit has a row of its own.
            let tokens = rows.min(data.batch).max(data.longest);
            (Rows::sharing(1, tokens), tokens)
        }
        None => {
            let rows = rows.min(settings.batch_size);
            (Rows::new(rows, data.longest), rows * data.learnt)
        }
    };
    let micro = Rows {
        drops: settings.dropout > 0.0,
        ..micro
    };
    let judge = data.judge.map(|config| Network {
        config,
        trainable: Trainable::Nothing,
        heads: 1,
        lora: None,
    });
    let judge_weights = judge.map_or(0, |judge| judge.weights());
    let best = match settings.keep {
        Keep::Last => 0,
        _ => trained,
    };
    let always = [
        part("weights", network.weights(), SMALLER_MODEL),
        part("the judge's weights", judge_weights, "a smaller judge"),
        part(
            "weights of the best epoch",
            best,
            "keeping the last epoch (keep=last)",
        ),
        moments(trained),
        program(config),
    ];
    let kept = activations(&network, micro, n, recomputes);
    let training = vec![
        gradients(trained, trained),
        part("activations", kept, SHORTER),
        working(&network, micro, n, recomputes),
    ];
    let mut phases = vec![
        ("training", training),
        saving(trained, network.largest_trained(), trained),
        checking(&network, data.longest, recomputes),
        loading(&judge.unwrap_or(network)),
        merging(&network),
    ];
    if settings.pack_tokens.is_some() {
        // That packing changes nothing is checked with three.
        let three = Rows::sharing(3, 3 * data.longest);
        phases.push(checking_of(&network, three, recomputes));
    }
    if judge.is_some() {
        let (n, new) = (settings.reward_prompts, settings.reward_tokens);
        let answers = answering(&network, n, data.longest.saturating_sub(1), new);
        phases.push(("answering prompts", answers));
    }
    if let Some(judge) = judge {
        // An answer follows its prompt, and EOS where it has none of its own.
        let time =
            (data.longest + settings.reward_tokens).min(judge.config.max_position_embeddings);
        let rows = Rows::new(JUDGED_ROWS.min(settings.reward_prompts), time);
        phases.push(("judging answers", scoring(&judge, rows)));
    }
    Estimate::highest(&always, phases)
}

/// The shapes of PPO's models.
pub struct Players<'a> {
    /// Of policy and reference.
    pub policy: &'a TransformerConfig,
    /// Of reward and value model.
    pub reward: &'a TransformerConfig,
    /// Of a second reward model.
    pub gold: Option<&'a TransformerConfig>,
    /// The reward model's adapter where all four are one base with adapters.
    pub judge: Option<&'a LoraConfig>,
    /// Heads of the reward model.
    pub members: usize,
}

/// PPO over prompts of which the longest has `longest` tokens.
pub fn ppo(
    players: &Players,
    settings: &PpoConfig,
    longest: usize,
    has_texts: bool,
    rows: usize,
    recomputes: bool,
) -> Estimate {
    let trainable = settings.trainable();
    let config = players.policy;
    let policy = Network {
        config,
        trainable,
        heads: 0,
        lora: settings.lora.as_ref(),
    };
    let value = Network {
        config: players.reward,
        heads: 1,
        // By the reward model's own where they have one base.
        lora: players.judge.or(settings.lora.as_ref()),
        ..policy
    };
    let gold = players.gold.map_or(0, |config| {
        let trainable = Trainable::Nothing;
        let gold = Network {
            config,
            trainable,
            lora: None,
            ..value
        };
        gold.weights()
    });
    let (p, v) = (policy.trained(), value.trained());
    let minibatch = settings.batch_episodes.div_ceil(settings.minibatches);
    // EOS is added where a completion has none.
    let time = longest + settings.max_new_tokens + 1;
    let micro = Rows::new(rows.min(minibatch), time);
    let n = micro.n * settings.max_new_tokens;
    let average = match settings.ema_decay > 0.0 {
        true => p,
        false => 0,
    };
    let best = match settings.keep {
        KeepPolicy::BestGold => p,
        KeepPolicy::Last => 0,
    };
    // The output of frozen layers, for the policy and for the value model.
    let outputs = [policy, value].map(|network| match network.n_frozen_blocks() {
        0 => 0,
        _ => settings.batch_episodes * time * network.config.hidden_size,
    });
    // Of the members' heads all but one come on top.
    let members = (players.members - 1) * value.config.hidden_size;
    let judges = match (&settings.lora, players.judge) {
        (None, _) => p + value.weights() + v,
        // The reference is the base; the reward model too, with an adapter, or another one.
        (Some(_), Some(_)) => value.weights() - value.base() + v,
        (Some(_), None) => value.base() + value.config.hidden_size + v,
    };
    let weights = policy.weights() + judges + members;
    let always = [
        part("weights of four models", weights, SMALLER_MODEL),
        part("the second judge's weights", gold, "a smaller judge"),
        moments(p + v),
        part("weight average", average, "no average (ema_decay=0)"),
        part("weights of the best policy", best, "keep=last"),
        part(
            "weights of the policy to go back to",
            p + average,
            SMALLER_MODEL,
        ),
        part(
            "kept outputs of frozen layers",
            outputs.iter().sum(),
            FEWER_EPISODES,
        ),
        program(config),
    ];
    let asked = settings.batch_episodes.max(settings.evaluation_prompts);
    let learning = |network: &Network, rows: Rows, n: usize, probabilities: usize| {
        vec![
            gradients(p + v, network.trained()),
            part(
                "activations",
                activations(network, rows, n, recomputes),
                SHORTER,
            ),
            working(network, rows, probabilities, recomputes),
        ]
    };
    let mut phases = vec![
        ("training the policy", learning(&policy, micro, n, n)),
        ("training the value model", learning(&value, micro, n, 0)),
        (
            "answering prompts",
            answering(&policy, asked, longest, settings.max_new_tokens),
        ),
        saving(
            p + v,
            policy.largest_trained().max(value.largest_trained()),
            0,
        ),
        checking(&policy, time, recomputes),
        checking(&value, time, recomputes),
        match players.judge {
            None => loading(&value),
            Some(_) => loading(&policy),
        },
        merging(&policy),
    ];
    if has_texts && settings.ptx_coefficient > 0.0 {
        let texts = minibatch as f64 * settings.ptx_examples_per_episode;
        let texts = Rows::new(
            rows.min((texts.round() as usize).max(1)),
            settings.ptx_tokens,
        );
        let n = texts.tokens;
        phases.push(("learning from texts", learning(&policy, texts, n, n)));
    }
    Estimate::highest(&always, phases)
}

/// A pass of a frozen judge over rows, whose blocks come and go: the stream before and after
/// attention, its norm, queries, keys and values and what they became, and beside those the inside of
/// the feed-forward layer.
fn scoring(judge: &Network, rows: Rows) -> Vec<Part> {
    let config = judge.config;
    let heads = config.num_attention_heads + config.num_key_value_heads;
    let tokens = rows.tokens;
    let always = tokens.saturating_mul(3 * config.hidden_size + 2 * heads * config.head_dim);
    let inner = tokens.saturating_mul(3 * config.intermediate_size);
    let kept = always.saturating_add(inner);
    vec![part("the judge's pass", kept, FEWER_ANSWERS)]
}

/// Rows decoded together: their cache, and the prompts' pass or the choice of a token.
fn answering(policy: &Network, asked: usize, longest: usize, new: usize) -> Vec<Part> {
    let page = policy.page_bytes();
    let cache = cache_pages(asked, longest, new, page).saturating_mul(page);
    let n = asked.min(ROWS_AT_ONCE);
    // Prompts are read in one row, a block at a time.
    let read = Rows::sharing(n, (n * longest).min(READ_AT_ONCE.max(longest)));
    let reading = read.tokens * 2 * policy.config.intermediate_size;
    let reading = reading.saturating_add(policy.block_pass(read));
    let choosing = 3 * n * policy.config.vocab_size;
    vec![
        Part {
            name: "key-value cache",
            bytes: cache as u64,
            remedy: FEWER_EPISODES,
        },
        part(
            "passes that draw tokens",
            reading.max(choosing),
            FEWER_EPISODES,
        ),
    ]
}
