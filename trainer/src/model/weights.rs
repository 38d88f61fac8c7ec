//! A model folder's weights by their Hugging Face names, some of them trainable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::{AtPath, Result, TrainerError};
use crate::foreign;
use crate::model::transformer_config::TransformerConfig;

/// Which part of a model learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trainable {
    /// Nothing: a reference or reward model in use.
    Nothing,
    /// The upper so many blocks, the final norm, and the head of a reward model. The embedding, the
    /// projection to the vocabulary and
    /// the blocks below stay as they are.
    UpperLayers(usize),
    /// Everything.
    Everything,
}

/// Tensors by name; trainable ones are variables, frozen ones plain tensors, for which candle
/// computes no gradient. A clone shares them.
#[derive(Clone)]
pub struct Weights {
    /// Where they come from, for what is said of them.
    place: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    variables: BTreeMap<String, Var>,
}

impl Weights {
    /// Reads the folder's safetensors files, one or many, as f32 and by our names. Which tensors
    /// there may be, `config` says.
    ///
    /// # Errors
    /// A sentence naming the file: missing, torn, holding values that are not finite, or a tensor
    /// that the network would not read.
    pub fn read(folder: &Path, config: &TransformerConfig, device: &Device) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for path in files(folder)? {
            let unread = |message: String| {
                TrainerError::checkpoint(&path, format!("cannot be read: {message}"))
            };
            let loaded = foreign::call(|| candle_core::safetensors::load(&path, &Device::Cpu));
            for (name, tensor) in loaded.map_err(unread)? {
                let tensor = foreign::call(|| tensor.to_dtype(DType::F32))
                    .map_err(|message| unread(format!("tensor {name}: {message}")))?;
                // One sum finds any value that is not finite, without a second copy of the weights.
                let sum = match tensor.elem_count() {
                    0 => 0.0,
                    _ => tensor.abs()?.sum_all()?.to_scalar::<f32>()?,
                };
                if !sum.is_finite() {
                    let message = format!("tensor {name} holds values that are not finite");
                    return Err(TrainerError::checkpoint(&path, message));
                }
                tensors.insert(name, tensor);
            }
        }
        let taken = config.architecture.take_in(tensors, config);
        let tensors = taken.map_err(|error| match error {
            TrainerError::Checkpoint { message, .. } => TrainerError::checkpoint(folder, message),
            error => error,
        })?;
        if let Some(name) = tensors.keys().find(|name| !config.has_tensor(name)) {
            let message = format!("holds a tensor that the architecture does not have: {name}");
            return Err(TrainerError::checkpoint(folder, message));
        }
        let tensors = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, tensor.to_device(device)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            place: folder.to_owned(),
            ..Self::from_tensors(tensors)
        })
    }

    /// Weights from tensors made elsewhere.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>) -> Self {
        Self {
            place: PathBuf::from("model.safetensors"),
            tensors,
            variables: BTreeMap::new(),
        }
    }

    /// Makes the tensors that `wanted` names trainable.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn make_trainable(&mut self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        for (name, tensor) in &mut self.tensors {
            if wanted(name) {
                let variable = Var::from_tensor(&tensor.copy()?)?;
                *tensor = variable.as_tensor().clone();
                self.variables.insert(name.clone(), variable);
            }
        }
        Ok(())
    }

    /// The tensor of a name, checked against the shape that the configuration asks for.
    ///
    /// # Errors
    /// A sentence naming the tensor.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.tensors.get(name).ok_or_else(|| {
            TrainerError::checkpoint(&self.place, format!("has no tensor {name}"))
        })?;
        if tensor.dims() != shape {
            let message = format!(
                "tensor {name} is {:?} where config.json asks for {shape:?}",
                tensor.dims()
            );
            return Err(TrainerError::checkpoint(&self.place, message));
        }
        Ok(tensor.clone())
    }

    /// Whether a tensor of that name exists.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: &str, tensor: Tensor) {
        self.tensors.insert(name.to_owned(), tensor);
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
        self.variables.remove(name);
    }

    /// The trainable ones in the order of their names.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// Every tensor in the order of their names.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// SHA-256 of all values in the order of their names, to see that frozen weights stay frozen.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn hash(&self) -> Result<String> {
        let tensors: Vec<&Tensor> = self.tensors.values().collect();
        let digests: Vec<Result<[u8; 32]>> = tensors.par_iter().map(|t| digest(t)).collect();
        let mut hasher = Sha256::new();
        for digest in digests {
            hasher.update(digest?);
        }
        Ok(hex::encode(hasher.finalize()))
    }

    /// A frozen copy: trainable tensors are copied, since training changes them in place; frozen
    /// ones are shared.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn frozen_copy(&self) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            let tensor = match self.variables.contains_key(name) {
                true => tensor.detach().copy()?,
                false => tensor.clone(),
            };
            tensors.insert(name.clone(), tensor);
        }
        Ok(Self {
            place: self.place.clone(),
            tensors,
            variables: BTreeMap::new(),
        })
    }
}

/// The safetensors files of a folder: one, or those that the index of a large model names.
///
/// # Errors
/// A sentence: there is none, the index cannot be read, or a file that it names is missing.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        return Err(TrainerError::checkpoint(folder, "has no model.safetensors"));
    }
    let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&index).at(&index)?)
        .map_err(|error| TrainerError::checkpoint(&index, format!("is not JSON: {error}")))?;
    let mut names = BTreeSet::new();
    for name in value["weight_map"].as_object().into_iter().flatten() {
        let name = name.1.as_str().ok_or_else(|| {
            let message = format!("names no file for {}, but {}", name.0, name.1);
            TrainerError::checkpoint(&index, message)
        })?;
        names.insert(name);
    }
    if names.is_empty() {
        return Err(TrainerError::checkpoint(&index, "names no files"));
    }
    names
        .into_iter()
        .map(|name| {
            // A file beside the index, never one elsewhere on the machine.
            let path = folder.join(name);
            let mut parts = Path::new(name).components();
            let is_beside = matches!(parts.next(), Some(Component::Normal(_)));
            match is_beside && parts.next().is_none() && path.is_file() {
                true => Ok(path),
                false => {
                    let message = format!("names the file {name:?}, which is not there");
                    Err(TrainerError::checkpoint(&index, message))
                }
            }
        })
        .collect()
}

fn digest(tensor: &Tensor) -> Result<[u8; 32]> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let mut hasher = Sha256::new();
    for chunk in values.chunks(4096) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    Ok(hasher.finalize().into())
}
