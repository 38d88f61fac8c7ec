//! The networks: decoder-only language models written for training, and scalar heads on top.

pub mod architecture;
pub mod attention;
pub mod batch;
pub mod dropout;
pub mod heads;
pub mod layers;
pub mod recompute;
pub mod scratch;
pub mod segments;
pub mod token_log_probs;
pub mod transformer;
pub mod transformer_config;
pub mod weights;
