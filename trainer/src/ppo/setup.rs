//! Before and after the loop: reading data and models, the checks between the models, and writing
//! the checkpoint.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use candle_core::Device;
use rand::seq::SliceRandom;

use super::gold::GoldJudge;
use super::watch::Stop;
use super::{MICRO_ROWS, Models, PpoJob};
use crate::adapter;
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256, sha256_of_weights};
use crate::config::PpoConfig;
use crate::error::{Result, TrainerError};
use crate::memory::runs::Players;
use crate::memory::{self, Plan};
use crate::model::ensemble::Members;
use crate::model::lora::LoraConfig;
use crate::model::transformer::TransformerConfig;
use crate::progress::Progress;
use crate::records::{self, Placed, Prompt, PromptRecord};
use crate::rng::stream;
use crate::self_check::{self, data, files};
use crate::sft::{adapters_of, training_notes};
use crate::text::TextCodec;

/// The shapes of policy and reward model.
pub(super) struct Shapes {
    policy: TransformerConfig,
    reward: TransformerConfig,
    gold: Option<TransformerConfig>,
    /// The reward model's adapter, where policy and reward model are one base with adapters.
    judge: Option<LoraConfig>,
    /// Heads of the reward model.
    members: usize,
}

impl Shapes {
    pub(super) fn read(job: &PpoJob) -> Result<Self> {
        let policy = TransformerConfig::read(&job.base)?;
        let reward = TransformerConfig::read(&job.reward)?;
        let members = Members::read(&job.reward, reward.hidden_size, &Device::Cpu)?;
        Ok(Self {
            gold: match job.gold_folder() {
                Some(folder) => Some(TransformerConfig::read(folder)?),
                None => None,
            },
            judge: match job.config.lora.is_some() && policy == reward {
                true => adapter::shape_for(&job.reward, &sha256_of_weights(&job.base)?)?,
                false => None,
            },
            members: members.map_or(1, |members| members.biases.len()),
            policy,
            reward,
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
            judge: self.judge.as_ref(),
            members: self.members,
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
    if let Some(texts) = &job.texts {
        data::tell(texts, codec, progress)?;
    }
    files::finite_weights("policy", models.policy.weights(), progress)?;
    files::finite_weights("reward model", models.reward.trunk.weights(), progress)?;
    files::head_survives("value model", models.value.heads(), &job.out, progress)?;
    let (n, n_layers) = (
        models.policy.n_frozen(),
        models.policy.config.num_hidden_layers,
    );
    progress.log(format!(
        "training {}the upper {} of {n_layers} layers of policy and value model",
        adapters_of(&models.policy),
        n_layers - n
    ));
    let megabytes = models.bytes() as f64 / 1e6;
    progress.log(match models.bases() {
        1 => format!("the weights of all four models take {megabytes:.1} MB over one base"),
        n => format!("the weights of all four models take {megabytes:.1} MB over {n} bases"),
    });
    let has_adapter = job.reward.join(adapter::FOLDER).exists();
    if job.config.lora.is_some() && models.bases() > 1 && has_adapter {
        progress.log(
            "the reward model's adapter belongs on other weights than the policy's base: its merged \
             weights are used",
        );
    }
    if models.shared {
        progress.log(format!(
            "the lower {n} layers are the same in all four models and run once"
        ));
    }
    Ok(())
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
    let base = sha256_of_weights(&job.base)?;
    lineage.parents.insert("base".to_owned(), base.clone());
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
    let (weights, shape) = (models.policy.weights(), &models.policy.config);
    let merged = weights.merged()?;
    checkpoint::write_with(&place, &job.base, &merged, None, &lineage, |folder| {
        adapter::write(folder, weights, shape, None, &base)
    })?;
    Ok(place)
}
