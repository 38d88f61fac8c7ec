//! Before and after the loop: reading data and models, the checks between the models, and writing
//! the checkpoint.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use candle_core::Device;
use rand::seq::SliceRandom;

use super::gold::GoldJudge;
use super::watch::Stop;
use super::{MICRO_ROWS, Models, PpoJob};
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256, sha256_of_weights};
use crate::config::PpoConfig;
use crate::error::{Result, TrainerError};
use crate::memory::runs::Players;
use crate::memory::{self, Plan};
use crate::model::heads::RewardModel;
use crate::model::transformer::{Transformer, TransformerConfig};
use crate::progress::Progress;
use crate::records::{self, Placed, Prompt, PromptRecord};
use crate::rng::stream;
use crate::self_check::{self, files};
use crate::sft::training_notes;
use crate::text::TextCodec;

/// The shapes of policy and reward model.
pub(super) struct Shapes {
    policy: TransformerConfig,
    reward: TransformerConfig,
    gold: Option<TransformerConfig>,
}

impl Shapes {
    pub(super) fn read(job: &PpoJob) -> Result<Self> {
        Ok(Self {
            policy: TransformerConfig::read(&job.base)?,
            reward: TransformerConfig::read(&job.reward)?,
            gold: match job.gold_folder() {
                Some(folder) => Some(TransformerConfig::read(folder)?),
                None => None,
            },
        })
    }

    /// Tokens that both can hold.
    fn context(&self) -> usize {
        let policy = self.policy.max_position_embeddings;
        policy.min(self.reward.max_position_embeddings)
    }

    /// How batches are taken apart, and what memory the run needs.
    pub(super) fn plan(
        &self,
        config: &PpoConfig,
        prompts: &[Vec<u32>],
        has_texts: bool,
    ) -> Result<Plan> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let players = Players {
            policy: &self.policy,
            reward: &self.reward,
            gold: self.gold.as_ref(),
        };
        let sizes = memory::halves(config.micro_rows, MICRO_ROWS);
        let candidates = memory::in_turn(&sizes, config.recompute_activations);
        Plan::choose(
            config.memory_limit_gib,
            &candidates,
            |_, rows, recomputes| {
                memory::runs::ppo(&players, config, longest, has_texts, rows, recomputes)
            },
        )
    }
}

pub(super) fn load_models(job: &PpoJob, codec: &TextCodec, recomputes: bool) -> Result<Models> {
    let trainable = job.config.trainable();
    let mut policy = Transformer::load(&job.base, &Device::Cpu, trainable)?;
    policy.set_recompute(recomputes);
    codec.check_fits(&job.base, policy.config.vocab_size)?;
    let reference = policy.frozen_copy()?;
    let mut value = RewardModel::load(&job.reward, &Device::Cpu, trainable)?;
    value.trunk.set_recompute(recomputes);
    codec.check_fits(&job.reward, value.trunk.config.vocab_size)?;
    // Frozen layers are there once.
    let reward = value.frozen_copy()?;
    let n = policy.n_frozen();
    let shared = n > 0 && value.trunk.n_frozen() == n && policy.shares_lower(&reward.trunk, n)?;
    Ok(Models {
        policy,
        reference,
        reward,
        value,
        shared,
    })
}

/// What must hold between the models. Checked before the run has a folder.
pub(super) fn check_models(
    job: &PpoJob,
    codec: &TextCodec,
    models: &Models,
    progress: &mut dyn Progress,
) -> Result<()> {
    self_check::same_language(codec, &job.reward, progress)?;
    // The policy may choose any token that it has a number for, known to the tokenizer or not.
    let (ours, others) = (
        models.policy.config.vocab_size,
        models.reward.trunk.config.vocab_size,
    );
    progress.check(
        "size of the vocabulary",
        ours <= others,
        format!("the policy writes {ours} tokens, the reward model reads {others}"),
    )
}

/// Checks where the models come from, and says what the operator should know of them.
pub(super) fn describe_models(
    job: &PpoJob,
    codec: &TextCodec,
    models: &Models,
    progress: &mut dyn Progress,
) -> Result<()> {
    let theirs = TextCodec::load(&job.reward)?;
    files::origin("policy", &job.base, codec, progress)?;
    files::origin("reward model", &job.reward, &theirs, progress)?;
    files::round_trip(&job.prompts, codec, progress)?;
    files::finite_weights("policy", models.policy.weights(), progress)?;
    files::finite_weights("reward model", models.reward.trunk.weights(), progress)?;
    files::head_survives("value model", models.value.head(), &job.out, progress)?;
    let (n, n_layers) = (
        models.policy.n_frozen(),
        models.policy.config.num_hidden_layers,
    );
    progress.log(format!(
        "training the upper {} of {n_layers} layers of policy and value model",
        n_layers - n
    ));
    if models.shared {
        progress.log(format!(
            "the lower {n} layers are the same in all four models and run once"
        ));
    }
    Ok(())
}

/// SHA-256 of the reference's and the reward model's weights.
pub(super) fn frozen_hashes(models: &Models) -> Result<[String; 2]> {
    Ok([
        models.reference.weights().hash()?,
        models.reward.trunk.weights().hash()?,
    ])
}

/// The different prompts in an order drawn by the seed.
pub(super) struct Prompts {
    /// As the model reads them.
    pub(super) tokens: Vec<Vec<u32>>,
    /// As people wrote them, in the same order.
    pub(super) written: Vec<Prompt>,
    /// Lines of those that were too long and are left out.
    pub(super) too_long: Vec<usize>,
}

/// Reads each different prompt once.
pub(super) fn read_prompts(
    job: &PpoJob,
    codec: &TextCodec,
    shapes: &Shapes,
    gold: Option<&GoldJudge>,
) -> Result<Prompts> {
    let records: Vec<Placed<PromptRecord>> = records::read_placed(&job.prompts)?;
    // The completion follows, and EOS where it has none of its own.
    let theirs = gold.and_then(GoldJudge::context);
    let context = theirs.unwrap_or(usize::MAX).min(shapes.context());
    let room = context.saturating_sub(job.config.max_new_tokens + 1);
    if room == 0 {
        return Err(TrainerError::Config {
            field: "max_new_tokens".into(),
            message: format!(
                "is {}, and leaves no room for a prompt in a context of {context} tokens",
                job.config.max_new_tokens
            ),
        });
    }
    let longest = job.config.max_prompt_tokens.min(room);
    let mut prompts = Vec::new();
    let mut known = HashSet::new();
    let mut too_long = Vec::new();
    for placed in records {
        let prompt = &placed.record.prompt;
        let tokens = placed.at_field("prompt", codec.encode_prompt(prompt))?;
        if tokens.len() > longest {
            too_long.push(placed.line);
        } else if known.insert(tokens.clone()) {
            prompts.push((tokens, placed.record.prompt));
        }
    }
    if prompts.is_empty() {
        let message = format!("is longer than {longest} tokens, as is every other prompt");
        let line = too_long[0];
        return Err(TrainerError::input(&job.prompts, line, "prompt", message));
    }
    prompts.shuffle(&mut stream(job.config.seed, "prompts of the run", 0));
    let (tokens, written) = prompts.into_iter().unzip();
    Ok(Prompts {
        tokens,
        written,
        too_long,
    })
}

pub(super) fn write(
    job: &PpoJob,
    codec: &TextCodec,
    models: &Models,
    summary: &BTreeMap<String, f64>,
    stop: Option<&Stop>,
) -> Result<PathBuf> {
    let mut lineage = Lineage::new(CheckpointKind::Policy);
    lineage
        .parents
        .insert("base".to_owned(), sha256_of_weights(&job.base)?);
    lineage
        .parents
        .insert("reward".to_owned(), sha256_of_weights(&job.reward)?);
    if let Some(gold) = job.gold_folder() {
        let hash = sha256_of_weights(gold)?;
        lineage.parents.insert("gold".to_owned(), hash);
    }
    lineage
        .data
        .insert("prompts".to_owned(), sha256(&job.prompts)?);
    if let Some(texts) = &job.texts {
        lineage.data.insert("texts".to_owned(), sha256(texts)?);
    }
    lineage.template = codec.template_hash();
    lineage.config = serde_json::to_value(&job.config).unwrap_or_default();
    lineage.summary = summary.clone();
    lineage.notes = training_notes(&models.policy);
    lineage
        .notes
        .extend(stop.map(|stop| format!("The run {}.", stop.sentence)));
    let place = job.out.join("checkpoint");
    checkpoint::write(
        &place,
        &job.base,
        models.policy.weights().tensors(),
        None,
        &lineage,
    )?;
    Ok(place)
}
