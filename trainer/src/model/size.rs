//! How large a network may be at most. A configuration that lies would overflow what is counted of
//! it, or take all memory, before anything else could tell.

use super::transformer_config::{Positions, TransformerConfig};

/// Most numbers of a network: four trillion, several times those of the largest that are known. What is
/// counted of a network within it fits 64 bits.
const MOST_PARAMETERS: u128 = 1 << 42;

impl TransformerConfig {
    /// Refuses more weights than a machine could ever hold, naming the setting that makes most of
    /// them. Each number is at most 2^20 here, so that nothing overflows.
    pub(super) fn check_size(&self) -> std::result::Result<(), String> {
        let wide = |n: usize| n as u128;
        let (hidden, inner) = (wide(self.hidden_size), wide(self.intermediate_size));
        let heads = wide(self.num_attention_heads) + wide(self.num_key_value_heads);
        let block = hidden * (2 * heads * wide(self.head_dim) + 3 * inner);
        let positions = match self.positions {
            Positions::Learned => wide(self.max_position_embeddings) * hidden,
            Positions::Rotary { .. } => 0,
        };
        let parts = [
            (
                "vocab_size",
                self.vocab_size,
                2 * wide(self.vocab_size) * hidden,
            ),
            (
                "num_hidden_layers",
                self.num_hidden_layers,
                wide(self.num_hidden_layers) * block,
            ),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                positions,
            ),
        ];
        let total: u128 = parts.iter().map(|(_, _, n)| n).sum();
        let largest = parts.into_iter().max_by_key(|(_, _, n)| *n);
        match largest.filter(|_| total > MOST_PARAMETERS) {
            Some((name, value, _)) => Err(format!(
                "{name} is {value}, which beside a hidden_size of {hidden} makes a network of {total} \
                 numbers; at most {MOST_PARAMETERS} are supported"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_network_of_more_numbers_than_there_are_is_refused_by_field() {
        let parse = |hidden: usize, layers: usize, vocabulary: usize| {
            TransformerConfig::parse(&json!({
                "model_type": "llama", "hidden_size": hidden, "intermediate_size": 4 * hidden,
                "num_hidden_layers": layers, "num_attention_heads": 64, "head_dim": hidden / 64,
                "num_key_value_heads": 64, "vocab_size": vocabulary,
                "max_position_embeddings": 131_072,
            }))
        };
        // A trillion and a half.
        parse(32_768, 96, 256_000).unwrap();
        let error = parse(1 << 18, 96, 1000).unwrap_err();
        let words = "num_hidden_layers is 96, which beside a hidden_size of 262144";
        assert!(error.contains(words), "{error}");
        let error = parse(1 << 18, 1 << 20, 1 << 20).unwrap_err();
        assert!(error.contains("num_hidden_layers is 1048576"), "{error}");
    }
}
