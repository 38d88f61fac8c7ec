//! The networks: a Llama language model written for training, and scalar heads on top of it.

pub mod attention;
pub mod batch;
pub mod heads;
pub mod llama;
pub mod llama_config;
pub mod token_log_probs;
pub mod weights;
