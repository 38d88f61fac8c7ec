//! Adapters as files: the folder `adapter/` beside a checkpoint's merged weights, in PEFT's form
//! (`adapter_config.json`, `adapter_model.safetensors`), so that PEFT puts it on the base as it is.
//! `plackett.json` beside them names the base by its hash: on that base, and on no other, the
//! adapter computes to the bit what was trained.
//!
//! GPT's folders keep queries, keys and values as one matrix, so PEFT has one adapter there. Ours
//! become one by putting A below A, and B block by block on the diagonal; rank and alpha grow
//! together, so that alpha / rank stays.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint::{sha256, sha256_of_weights, write_json};
use crate::config::check_lora;
use crate::disk;
use crate::error::{AtPath, Result, TrainerError};
use crate::foreign;
use crate::model::architecture::{Architecture, SCORE};
use crate::model::lora::{Adapter, LoraConfig, LoraTarget, names};
use crate::model::transformer::TransformerConfig;
use crate::model::weights::Weights;

/// The folder within a checkpoint.
pub const FOLDER: &str = "adapter";

const TENSORS: &str = "adapter_model.safetensors";

const NOTE: &str = "plackett.json";

/// What of a checkpoint, besides its weights, makes another model of it.
pub(crate) const FILES: [&str; 2] = ["adapter/plackett.json", "adapter/adapter_model.safetensors"];

/// What PEFT puts before every name.
const PREFIX: &str = "base_model.model.";

/// `plackett.json` of an adapter.
#[derive(Serialize, Deserialize)]
struct Note {
    /// Version of the program that wrote it.
    program: String,
    /// SHA-256 of the weights that it belongs on.
    base: String,
    /// SHA-256 of its own tensors.
    tensors: String,
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
    /// What lies there: of several that GPT keeps as one, all of one shape, the first.
    target: LoraTarget,
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
            target: *target,
            ours: vec![ours(target)],
        })
        .collect();
    if let Some(first) = fused.first() {
        places.push(Place {
            theirs: format!("{block}.{}", folder_part(architecture, *first)),
            target: *first,
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

/// A tensor of PEFT's of this shape, taken out of `theirs`; none where it has none.
fn take(
    theirs: &mut HashMap<String, Tensor>,
    name: &str,
    shape: [usize; 2],
    path: &Path,
) -> Result<Option<Tensor>> {
    let Some(tensor) = theirs.remove(name) else {
        return Ok(None);
    };
    let wrong =
        |message: String| TrainerError::checkpoint(path, format!("tensor {name} {message}"));
    if tensor.dims() != shape {
        let found = tensor.dims();
        return Err(wrong(format!(
            "is {found:?} where the base asks for {shape:?}"
        )));
    }
    let tensor = foreign::call(|| tensor.to_dtype(DType::F32))
        .map_err(|message| wrong(format!("cannot be read: {message}")))?;
    match tensor.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
        true => Ok(Some(tensor)),
        false => Err(wrong("holds values that are not finite".to_owned())),
    }
}

/// Our tensors from PEFT's.
fn take_in(
    mut theirs: HashMap<String, Tensor>,
    config: &LoraConfig,
    shape: &TransformerConfig,
    path: &Path,
) -> Result<BTreeMap<String, Tensor>> {
    let mut ours = BTreeMap::new();
    let rank = config.rank;
    for layer in 0..shape.num_hidden_layers {
        for place in places(shape.architecture, &config.targets, layer) {
            let is_fused = place.theirs.ends_with("c_attn");
            let [outputs, width] = place.target.shape(shape);
            let (n, n_blocks) = if is_fused {
                (place.ours.len(), 3)
            } else {
                (1, 1)
            };
            let [inner_name, outer_name] = names(&place.theirs);
            let inner = take(&mut theirs, &inner_name, [n * rank, width], path)?;
            let outer = take(
                &mut theirs,
                &outer_name,
                [n_blocks * outputs, n * rank],
                path,
            )?;
            let (inner, outer) = match (inner, outer) {
                (Some(inner), Some(outer)) => (inner, outer),
                (None, None) => continue,
                (inner, _) => {
                    let lacks = if inner.is_none() {
                        inner_name
                    } else {
                        outer_name
                    };
                    return Err(TrainerError::checkpoint(
                        path,
                        format!("has no tensor {lacks}"),
                    ));
                }
            };
            for (index, name) in place.ours.iter().enumerate() {
                let [inner_name, outer_name] = names(name);
                let (inner, outer) = match is_fused {
                    false => (inner.clone(), outer.clone()),
                    true => {
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
    if ours.is_empty() {
        let message = "holds no adapter of a layer that the base has";
        return Err(TrainerError::checkpoint(path, message));
    }
    let (name, width) = (format!("{PREFIX}{SCORE}"), shape.hidden_size);
    if let Some(head) = take(&mut theirs, &name, [1, width], path)? {
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
    disk::create_folder(&folder)?;
    let peft = peft_config(&adapter, shape);
    write_json(&folder, "adapter_config.json", &peft)?;
    let theirs = give_out(&adapter, shape.architecture, shape.num_hidden_layers)?;
    let path = folder.join(TENSORS);
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    disk::write_tensors(&path, &theirs, Some(metadata))?;
    let note = Note {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        base: base.to_owned(),
        tensors: sha256(&path)?,
        lora: adapter.config,
    };
    write_json(&folder, NOTE, &json!(note))
}

/// What an adapter in a checkpoint says of itself; none where there is no adapter.
fn read_note(checkpoint: &Path) -> Result<Option<Note>> {
    let folder = checkpoint.join(FOLDER);
    if !folder.exists() {
        return Ok(None);
    }
    let path = folder.join(NOTE);
    let damaged = |what: String| TrainerError::checkpoint(&path, format!("is damaged: {what}"));
    let note: Note = serde_json::from_slice(&std::fs::read(&path).at(&path)?)
        .map_err(|error| damaged(error.to_string()))?;
    check_lora(Some(&note.lora)).map_err(|error| match error {
        TrainerError::Config { field, message } => damaged(format!("{field} {message}")),
        error => error,
    })?;
    Ok(Some(note))
}

/// The shape of the adapter that [`read_for`] would give.
///
/// # Errors
/// A sentence when the folder is torn.
pub fn shape_for(checkpoint: &Path, base: &str) -> Result<Option<LoraConfig>> {
    let note = read_note(checkpoint)?.filter(|note| note.base == base);
    Ok(note.map(|note| note.lora))
}

/// The adapter of a checkpoint that was trained from the weights with the hash `base`; none where
/// it was trained without one, or from others.
///
/// # Errors
/// A sentence when the folder is torn, or was changed since it was written.
pub fn read_for(
    checkpoint: &Path,
    base: &str,
    shape: &TransformerConfig,
) -> Result<Option<Adapter>> {
    let Some(note) = read_note(checkpoint)?.filter(|note| note.base == base) else {
        return Ok(None);
    };
    let path = checkpoint.join(FOLDER).join(TENSORS);
    let theirs = foreign::call(|| candle_core::safetensors::load(&path, &Device::Cpu))
        .map_err(|message| TrainerError::checkpoint(&path, format!("cannot be read: {message}")))?;
    let tensors = take_in(theirs, &note.lora, shape, &path)?;
    // Last, so that whatever else is wrong is told by its name.
    if sha256(&path)? != note.tensors {
        let message = "is not what was recorded when the adapter was made";
        return Err(TrainerError::checkpoint(&path, message));
    }
    Ok(Some(Adapter {
        tensors,
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
