//! Randomness by name: each purpose draws from a stream of its own, so that adding a draw in one
//! place changes nothing elsewhere, and the same seed gives the same bytes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use sha2::{Digest, Sha256};

/// The stream of `purpose`, number `index`, under `seed`.
pub fn stream(seed: u64, purpose: &str, index: u64) -> ChaCha12Rng {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(index.to_le_bytes());
    hasher.update(purpose.as_bytes());
    ChaCha12Rng::from_seed(hasher.finalize().into())
}

/// A draw from the standard normal distribution (Box and Muller's transform).
pub fn standard_normal(rng: &mut ChaCha12Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    let angle = std::f64::consts::TAU * rng.random::<f64>();
    (radius * angle.cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_purpose_and_index() {
        let draw = |purpose, index| stream(7, purpose, index).random::<u64>();
        assert_eq!(draw("sample", 0), draw("sample", 0));
        assert_ne!(draw("sample", 0), draw("sample", 1));
        assert_ne!(draw("sample", 0), draw("shuffle", 0));
    }

    #[test]
    fn normal_draws_have_mean_0_and_variance_1() {
        let mut rng = stream(1, "normal", 0);
        let draws: Vec<f32> = (0..20_000).map(|_| standard_normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f32>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 20_000.0;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05,
            "{mean} {variance}"
        );
    }
}
