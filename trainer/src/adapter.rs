//! Adapters as files: the folder `adapter/` beside a checkpoint's merged weights, in PEFT's form
//! (`adapter_config.json`, `adapter_model.safetensors`), so that PEFT puts it on the base as it is.
//! `plackett.json` beside them names the base by its hash: on that base, and on no other, the
//! adapter computes to the bit what was trained.
//!
//! GPT's folders keep queries, keys and values as one matrix, so PEFT has one adapter there. Ours
//! become one by putting A below A, and B block by block on the diagonal; rank and alpha grow
//! together, so that alpha / rank stays.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint::{sha256_of_weights, write_json};
use crate::error::{AtPath, Result, TrainerError};
use crate::model::architecture::{Architecture, SCORE};
use crate::model::lora::{Adapter, LoraConfig, LoraTarget, names};
use crate::model::transformer::TransformerConfig;
use crate::model::weights::Weights;

/// The folder within a checkpoint.
pub const FOLDER: &str = "adapter";

const TENSORS: &str = "adapter_model.safetensors";

/// What PEFT puts before every name.
const PREFIX: &str = "base_model.model.";

/// `plackett.json` of an adapter.
#[derive(Serialize, Deserialize)]
struct Note {
    /// Version of the program that wrote it.
    program: String,
    /// SHA-256 of the weights that it belongs on.
    base: String,
    /// Its shape.
    lora: LoraConfig,
}

/// The queries, keys and values among `targets`, in the order in which GPT keeps them as one.
fn fused(architecture: Architecture, targets: &[LoraTarget]) -> Vec<LoraTarget> {
    let all = [LoraTarget::Query, LoraTarget::Key, LoraTarget::Value];
    let wanted = all.into_iter().filter(|target| targets.contains(target));
    wanted.filter(|_| architecture.is_gpt()).collect()
}

/// The name of a projection in the architecture's folders, after the name of its block.
fn folder_part(architecture: Architecture, target: LoraTarget) -> &'static str {
    match (architecture.is_gpt(), target) {
        (false, target) => target.part(),
        (true, LoraTarget::Query | LoraTarget::Key | LoraTarget::Value) => "attn.c_attn",
        (true, LoraTarget::Output) => "attn.c_proj",
        (true, LoraTarget::Up) => "mlp.c_fc",
        (true, LoraTarget::Gate) => "",
        (true, LoraTarget::Down) => "mlp.c_proj",
    }
}

/// One projection's adapter on its way between the two forms.
struct Place {
    /// PEFT's name of the module.
    theirs: String,
    /// Our names of what lies there: one, or several that GPT keeps as one.
    ours: Vec<String>,
}

/// Every place of a block that an adapter of these targets may have.
fn places(architecture: Architecture, targets: &[LoraTarget], layer: usize) -> Vec<Place> {
    let block = match architecture.is_gpt() {
        true => format!("{PREFIX}transformer.h.{layer}"),
        false => format!("{PREFIX}model.layers.{layer}"),
    };
    let fused = fused(architecture, targets);
    let ours = |target: &LoraTarget| format!("model.layers.{layer}.{}", target.part());
    let alone = targets.iter().filter(|target| {
        !fused.contains(target) && !folder_part(architecture, **target).is_empty()
    });
    let mut places: Vec<Place> = alone
        .map(|target| Place {
            theirs: format!("{block}.{}", folder_part(architecture, *target)),
            ours: vec![ours(target)],
        })
        .collect();
    if let Some(first) = fused.first() {
        places.push(Place {
            theirs: format!("{block}.{}", folder_part(architecture, *first)),
            ours: fused.iter().map(ours).collect(),
        });
    }
    places
}

/// Several B `[out, rank]` as blocks on the diagonal of one, `place` of them being those of queries,
/// keys and values that the adapter has; the others' rows are zero.
fn on_diagonal(parts: &[(usize, &Tensor)]) -> Result<Tensor> {
    let (outputs, rank) = parts[0].1.dims2()?;
    let mut rows = Vec::with_capacity(3);
    for place in 0..3 {
        let mut row = Vec::with_capacity(parts.len());
        for (own, part) in parts {
            row.push(match *own == place {
                true => (*part).clone(),
                false => Tensor::zeros((outputs, rank), DType::F32, part.device())?,
            });
        }
        rows.push(Tensor::cat(&row, 1)?);
    }
    Ok(Tensor::cat(&rows, 0)?)
}

/// Which of GPT's three a projection is.
fn place_in_qkv(name: &str) -> usize {
    let all = [LoraTarget::Query, LoraTarget::Key, LoraTarget::Value];
    let found = all.iter().position(|target| name.ends_with(target.part()));
    found.unwrap_or(0)
}

/// PEFT's tensors from ours.
fn give_out(
    adapter: &Adapter,
    architecture: Architecture,
    n_layers: usize,
) -> Result<BTreeMap<String, Tensor>> {
    let mut theirs = BTreeMap::new();
    for layer in 0..n_layers {
        for place in places(architecture, &adapter.config.targets, layer) {
            let pairs = place.ours.iter().filter_map(|name| {
                let [inner, outer] = names(name);
                let pair = (adapter.tensors.get(&inner)?, adapter.tensors.get(&outer)?);
                Some((place_in_qkv(name), pair))
            });
            let pairs: Vec<(usize, (&Tensor, &Tensor))> = pairs.collect();
            let (inner, outer) = match pairs.as_slice() {
                [] => continue,
                [(_, (inner, outer))] if !place.theirs.ends_with("c_attn") => {
                    ((*inner).clone(), (*outer).clone())
                }
                pairs => {
                    let inner: Vec<&Tensor> = pairs.iter().map(|(_, (inner, _))| *inner).collect();
                    let outer = pairs.iter().map(|(place, (_, outer))| (*place, *outer));
                    let outer: Vec<(usize, &Tensor)> = outer.collect();
                    (Tensor::cat(&inner, 0)?, on_diagonal(&outer)?)
                }
            };
            let [inner_name, outer_name] = names(&place.theirs);
            theirs.insert(inner_name, inner);
            theirs.insert(outer_name, outer);
        }
    }
    if let Some(head) = adapter.tensors.get(SCORE) {
        theirs.insert(format!("{PREFIX}{SCORE}"), head.clone());
    }
    Ok(theirs)
}

/// Our tensors from PEFT's.
fn take_in(
    mut theirs: HashMap<String, Tensor>,
    config: &LoraConfig,
    shape: &TransformerConfig,
    path: &Path,
) -> Result<BTreeMap<String, Tensor>> {
    let mut ours = BTreeMap::new();
    for layer in 0..shape.num_hidden_layers {
        for place in places(shape.architecture, &config.targets, layer) {
            let [inner_name, outer_name] = names(&place.theirs);
            let (Some(inner), Some(outer)) =
                (theirs.remove(&inner_name), theirs.remove(&outer_name))
            else {
                continue;
            };
            let is_fused = place.theirs.ends_with("c_attn");
            for (index, name) in place.ours.iter().enumerate() {
                let [inner_name, outer_name] = names(name);
                let (inner, outer) = match is_fused {
                    false => (inner.clone(), outer.clone()),
                    true => {
                        let (rank, outputs) = (config.rank, outer.dim(0)? / 3);
                        let rows = outer.narrow(0, place_in_qkv(name) * outputs, outputs)?;
                        (
                            inner.narrow(0, index * rank, rank)?.force_contiguous()?,
                            rows.narrow(1, index * rank, rank)?.force_contiguous()?,
                        )
                    }
                };
                ours.insert(inner_name, inner);
                ours.insert(outer_name, outer);
            }
        }
    }
    if let Some(head) = theirs.remove(&format!("{PREFIX}{SCORE}")) {
        ours.insert(SCORE.to_owned(), head);
    }
    match theirs.into_keys().min() {
        None => Ok(ours),
        Some(name) => {
            let message = format!("holds a tensor that its configuration does not name: {name}");
            Err(TrainerError::checkpoint(path, message))
        }
    }
}

/// `adapter_config.json`.
fn peft_config(adapter: &Adapter, shape: &TransformerConfig) -> Value {
    let LoraConfig {
        rank,
        alpha,
        targets,
    } = &adapter.config;
    let fused = fused(shape.architecture, targets);
    let whole = |number: f64| match number.fract() == 0.0 {
        true => json!(number as i64),
        false => json!(number),
    };
    let mut modules: Vec<&str> = targets
        .iter()
        .map(|target| folder_part(shape.architecture, *target))
        // PEFT looks for the end of a module's name.
        .map(|part| match shape.architecture.is_gpt() {
            true => part,
            false => part.rsplit('.').next().unwrap_or(part),
        })
        .filter(|part| !part.is_empty())
        .collect();
    modules.sort_unstable();
    modules.dedup();
    let layers: Vec<usize> = (0..shape.num_hidden_layers)
        .filter(|layer| {
            let block = format!("model.layers.{layer}.");
            adapter.tensors.keys().any(|name| name.starts_with(&block))
        })
        .collect();
    let n = fused.len();
    let pattern = |value: Value| match n > 1 {
        true => json!({"attn.c_attn": value}),
        false => json!({}),
    };
    let is_judge = adapter.tensors.contains_key(SCORE);
    json!({
        "peft_type": "LORA",
        "task_type": if is_judge { "SEQ_CLS" } else { "CAUSAL_LM" },
        "base_model_name_or_path": null,
        "r": rank,
        "lora_alpha": whole(*alpha),
        "rank_pattern": pattern(json!(n * rank)),
        "alpha_pattern": pattern(whole(n as f64 * alpha)),
        "target_modules": modules,
        "layers_to_transform": match layers.len() == shape.num_hidden_layers {
            true => Value::Null,
            false => json!(layers),
        },
        "modules_to_save": if is_judge { json!(["score"]) } else { Value::Null },
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": shape.architecture.is_gpt(),
        "init_lora_weights": true,
        "inference_mode": true,
        "use_dora": false,
        "use_rslora": false,
    })
}

/// Writes the adapter among `weights` into a checkpoint's folder, where there is one. `head` is the
/// head of a reward model, `[1, hidden]`; `base` the SHA-256 of the weights that the adapter belongs
/// on.
///
/// # Errors
/// When the disk is full.
pub fn write(
    checkpoint: &Path,
    weights: &Weights,
    shape: &TransformerConfig,
    head: Option<Tensor>,
    base: &str,
) -> Result<()> {
    let Some(mut adapter) = Adapter::of(weights) else {
        return Ok(());
    };
    adapter.tensors.remove(SCORE);
    if let Some(head) = head {
        adapter.tensors.insert(SCORE.to_owned(), head.detach());
    }
    let folder = checkpoint.join(FOLDER);
    std::fs::create_dir(&folder).at(&folder)?;
    write_json(
        &folder,
        "adapter_config.json",
        &peft_config(&adapter, shape),
    )?;
    let note = Note {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        base: base.to_owned(),
        lora: adapter.config.clone(),
    };
    write_json(&folder, "plackett.json", &json!(note))?;
    let theirs = give_out(&adapter, shape.architecture, shape.num_hidden_layers)?;
    let path = folder.join(TENSORS);
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(&theirs, Some(metadata), &path)
        .map_err(|error| TrainerError::checkpoint(&path, format!("cannot be written: {error}")))
}

/// The adapter of a checkpoint that was trained from the weights with the hash `base`; none where
/// it was trained without one, or from others.
///
/// # Errors
/// A sentence when the folder is torn.
pub fn read_for(
    checkpoint: &Path,
    base: &str,
    shape: &TransformerConfig,
) -> Result<Option<Adapter>> {
    let folder = checkpoint.join(FOLDER);
    if !folder.exists() {
        return Ok(None);
    }
    let path = folder.join("plackett.json");
    let note: Note = serde_json::from_slice(&std::fs::read(&path).at(&path)?)
        .map_err(|error| TrainerError::checkpoint(&path, format!("is damaged: {error}")))?;
    if note.base != base {
        return Ok(None);
    }
    let path: PathBuf = folder.join(TENSORS);
    let theirs = candle_core::safetensors::load(&path, &Device::Cpu)
        .map_err(|error| TrainerError::checkpoint(&path, format!("cannot be read: {error}")))?;
    Ok(Some(Adapter {
        tensors: take_in(theirs, &note.lora, shape, &path)?,
        config: note.lora,
    }))
}

/// [`read_for`] the weights in the folder `base`, of the same shape.
///
/// # Errors
/// A sentence about either folder.
pub fn read_for_folder(checkpoint: &Path, base: &Path) -> Result<Option<Adapter>> {
    let shape = TransformerConfig::read(base)?;
    read_for(checkpoint, &sha256_of_weights(base)?, &shape)
}
