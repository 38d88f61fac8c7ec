//! Learning from human rankings: supervised fine-tuning, K-wise reward models and PPO-ptx, the
//! three steps of InstructGPT (arXiv 2203.02155), on candle.
//!
//! Each algorithm is one file whose phases are numbered as in its head: [`sft`], [`reward`],
//! [`ppo`]. Beside them stand what PPO has to beat: [`dpo`] learns from rankings without a reward
//! model, and [`best_of_n`] keeps the best sample without learning at all. They share small
//! modules: [`model`] (the network), [`text`] (tokens), [`generate`] (sampling), [`loss`],
//! [`advantage`], [`kl`], [`optim`], [`checkpoint`]. The crate knows tensors and files; it knows no
//! HTTP and no SQL.

pub mod config;
pub mod error;
pub mod records;
pub mod rng;
pub mod split;
pub mod text;
pub mod tokenizer_training;

mod cutting;

pub mod device;
pub mod model;
pub mod nn;

pub mod generate;
pub mod sampling;

pub mod advantage;
pub mod kl;
pub mod loss;
pub mod optim;
pub mod schedule;

pub mod best_of_n;
pub mod dpo;
pub mod judge;
pub mod memory;
pub mod ppo;
pub mod reward;
pub mod self_check;
pub mod sft;

pub mod adapter;
pub mod checkpoint;
mod disk;
pub mod events;
mod foreign;
pub mod gguf;
pub mod hub;
pub mod progress;
pub mod run_folder;
pub mod savepoint;

/// Where tensors live, for callers that load a model themselves.
pub use device::Device;
pub use error::{Result, TrainerError};
