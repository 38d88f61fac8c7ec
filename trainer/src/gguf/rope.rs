//! Llama 3.1's rotary scaling, which GGUF keeps as one factor for each frequency. The settings that
//! made them are not in the file, but three of the four are the same in every model that has it.

use serde_json::{Value, json};

use crate::model::transformer_config::RopeScaling;

/// Llama 3.1's to 3.3's settings besides the factor: frequencies of waves longer than the old context
/// over `LOW` are divided, those of waves shorter than it over `HIGH` kept.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
const OLD_CONTEXT: f64 = 8192.0;

/// Where our own files keep the settings.
pub(super) const SETTINGS: &str = "plackett.rope_scaling";

/// `rope_scaling` of `config.json`.
pub(super) fn settings(scaling: RopeScaling) -> Value {
    match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } => json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_context as u64,
        }),
    }
}

/// By what each frequency of a head is divided, `[head_dim / 2]`.
pub(super) fn factors(scaling: RopeScaling, head_dim: usize, theta: f64) -> Vec<f32> {
    let frequencies = (0..head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64));
    frequencies
        .map(|frequency| (frequency / scaling.stretch(frequency)) as f32)
        .collect()
}

/// The scaling that makes the factors `found`: that of `config`, a `config.json` with the settings of
/// a file of our own, or Llama 3.1's; none where neither does.
pub(super) fn scaling_of_factors(
    found: &[f32],
    head_dim: usize,
    theta: f64,
    written: Option<RopeScaling>,
) -> Option<RopeScaling> {
    let usual = RopeScaling::Llama3 {
        // The longest waves are divided by the whole factor.
        factor: f64::from(found.last().copied()?),
        low_freq_factor: LOW,
        high_freq_factor: HIGH,
        original_context: OLD_CONTEXT,
    };
    let makes = |scaling: &RopeScaling| {
        let wanted = factors(*scaling, head_dim, theta);
        let same = |(found, wanted): (&f32, &f32)| (found / wanted - 1.0).abs() < 1e-5;
        found.len() == wanted.len() && found.iter().zip(&wanted).all(same)
    };
    written.into_iter().chain([usual]).find(makes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_llama_3_come_back_from_their_factors_and_others_do_not() {
        let scaling = |high_freq_factor: f64| RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor,
            original_context: 8192.0,
        };
        let found = factors(scaling(4.0), 64, 500_000.0);
        assert_eq!((found[0], found[31]), (1.0, 32.0));
        let read = |found: &[f32], written| scaling_of_factors(found, 64, 500_000.0, written);
        assert_eq!(read(&found, None), Some(scaling(4.0)));
        let settings = settings(scaling(4.0));
        assert_eq!(settings["original_max_position_embeddings"], 8192);
        let other = factors(scaling(3.0), 64, 500_000.0);
        assert_eq!(read(&other, None), None);
        assert_eq!(read(&other, Some(scaling(3.0))), Some(scaling(3.0)));
        // Settings that did not make the factors do not count.
        assert_eq!(read(&found, Some(scaling(3.0))), Some(scaling(4.0)));
        assert_eq!(read(&found[1..], None), None);
    }
}
