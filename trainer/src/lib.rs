//! The trainer: supervised fine-tuning, K-wise reward models and PPO with the ptx term (arXiv 2203.02155).
//!
//! It knows tensors and files; no HTTP, no SQL, no async runtime. A run reads plain files, reports through
//! [`progress::Progress`], and leaves a folder with its settings, its curves and a checkpoint that transformers loads.

pub mod advantage;
pub mod config;
pub mod error;
pub mod kl;
pub mod loss;
pub mod optim;
pub mod progress;
pub mod records;
pub mod run_folder;
pub mod schedule;
pub mod tensorboard;
