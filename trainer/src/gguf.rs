//! Between GGUF files (llama.cpp) and Hugging Face folders, for GPT-2, Llama, Qwen2 and Qwen3. Weights
//! of any kind that candle dequantises come in as f32; they go out as f32, f16 or q8_0. What goes out
//! as f32 comes in again to the bit.

mod metadata;
mod names;
mod rope;
mod tokenizer;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};

use self::metadata::Metadata;
pub use self::write::{Numbers, export};
use crate::checkpoint::{CheckpointKind, Lineage, write_atomically, write_folder};
use crate::disk;
use crate::error::{AtPath, Result, TrainerError};
use crate::foreign;
use crate::model::architecture::{Architecture, EMBEDDING, OUTPUT};
use crate::model::transformer_config::TransformerConfig;

/// Dequantises `file` into the folder `place`, in f32.
///
/// # Errors
/// A sentence: not GGUF, another architecture, a missing field, or the place is taken.
pub fn convert(file: &Path, place: &Path, notes: &[String]) -> Result<()> {
    let mut reader = BufReader::new(File::open(file).at(file)?);
    let content = foreign::call(|| Content::read(&mut reader))
        .map_err(|error| TrainerError::checkpoint(file, format!("is not a GGUF file: {error}")))?;
    let metadata = Metadata::new(&content, file)?;
    let architecture = metadata.architecture;
    let mut read = |name: &str, dims: &[usize]| -> Result<Tensor> {
        let wrong = |message: String| {
            TrainerError::checkpoint(file, format!("tensor {name} cannot be read: {message}"))
        };
        let n = dims.iter().try_fold(1_usize, |n, own| n.checked_mul(*own));
        if n.is_none_or(|n| n == 0) {
            return Err(wrong(format!("it is {dims:?}")));
        }
        let tensor = foreign::call(|| {
            let stored = content.tensor(&mut reader, name, &Device::Cpu)?;
            stored.dequantize(&Device::Cpu)
        });
        tensor.map_err(wrong)
    };
    let mut theirs = BTreeMap::new();
    for (name, info) in &content.tensor_infos {
        theirs.insert(name.clone(), read(name, info.shape.dims())?);
    }
    let factors = theirs.remove(names::ROPE_FACTORS);
    let factors = factors.map(|factors| factors.flatten_all()?.to_vec1::<f32>());
    let factors = factors.transpose()?;
    let ties = is_tied(architecture, &theirs)?;
    let config = metadata.config(ties, factors.as_deref())?;
    let shape = TransformerConfig::parse(&config)
        .map_err(|message| TrainerError::checkpoint(file, message))?;
    let mut ours = BTreeMap::new();
    for (name, tensor) in theirs {
        let found = names::take_in(&shape, &name, &tensor).map_err(|error| {
            TrainerError::checkpoint(file, format!("tensor {name} cannot be read: {error}"))
        })?;
        let found = found.unwrap_or_default();
        if found.is_empty() || found.iter().any(|(name, _)| !shape.has_tensor(name)) {
            let message = format!("holds an unknown tensor {name}");
            return Err(TrainerError::checkpoint(file, message));
        }
        ours.extend(found);
    }
    if ties {
        ours.remove(OUTPUT);
    }
    let tensors = architecture.give_out(&ours)?;
    let mut lineage = Lineage::new(CheckpointKind::Base);
    lineage.notes = notes.to_vec();
    lineage.notes.extend(metadata.remark()?);
    write_atomically(place, |folder| {
        write_folder(folder, &config, &tensors, &lineage)?;
        for (name, value) in [
            ("tokenizer.json", metadata.tokenizer()?),
            ("tokenizer_config.json", metadata.tokenizer_config()?),
        ] {
            let path = folder.join(name);
            disk::write(&path, value.to_string().as_bytes())?;
        }
        Ok(())
    })
}

/// Whether the output projection is the embedding: where there is none, and in GPT-2, whose files
/// often hold the embedding a second time.
fn is_tied(architecture: Architecture, tensors: &BTreeMap<String, Tensor>) -> Result<bool> {
    let [embedding, output] = [EMBEDDING, OUTPUT].map(|name| tensors.get(names::whole(name)));
    let (Some(embedding), Some(output)) = (embedding, output) else {
        return Ok(output.is_none());
    };
    if architecture != Architecture::Gpt2 || embedding.dims() != output.dims() {
        return Ok(false);
    }
    let differing = embedding.ne(output)?.to_dtype(candle_core::DType::F32)?;
    Ok(differing.sum_all()?.to_scalar::<f32>()? == 0.0)
}
