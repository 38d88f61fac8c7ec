//! `plackett model new`: a model from a shape and texts alone.

use std::path::PathBuf;

use anyhow::{Context, bail};
use trainer::model::architecture::Architecture;
use trainer::model::scratch::{self, GPT2_VOCABULARY, NamedShape, NewModel, Shape};

/// Settings of `plackett model new`.
#[derive(Debug, Clone, clap::Args)]
pub struct NewModelCommand {
    /// A shape by its name, for example gpt2-small; `plackett model shapes` lists them. What is
    /// given besides differs from it.
    #[arg(long)]
    shape: Option<String>,

    /// gpt, gpt2, llama, qwen2 or qwen3.
    #[arg(long, value_parser = architecture)]
    architecture: Option<Architecture>,

    /// Number of blocks.
    #[arg(long)]
    layers: Option<usize>,

    /// Width.
    #[arg(long)]
    hidden: Option<usize>,

    /// Query heads.
    #[arg(long)]
    heads: Option<usize>,

    /// Key and value heads, where they are fewer than the query heads.
    #[arg(long)]
    kv_heads: Option<usize>,

    /// Tokens that the model reads at once.
    #[arg(long)]
    context: Option<usize>,

    /// Tokens of the vocabulary; fewer where the texts hold fewer patterns.
    #[arg(long, default_value_t = GPT2_VOCABULARY)]
    vocabulary: usize,

    /// Seed of the weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Texts to train the tokenizer on: JSONL with a `text` in each line, or any other text files.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    texts: Vec<PathBuf>,

    /// The model's folder.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn architecture(word: &str) -> Result<Architecture, String> {
    // People say gpt; its folders say openai-gpt.
    let word = if word == "gpt" { "openai-gpt" } else { word };
    Architecture::of_model_type(word)
        .ok_or_else(|| "known are gpt, gpt2, llama, qwen2 and qwen3".to_owned())
}

impl NewModelCommand {
    fn shape(&self) -> anyhow::Result<Shape> {
        let named = self.shape.as_deref().map(NamedShape::find).transpose()?;
        let named = named.map(|named| named.shape);
        let get = |given: Option<usize>, named: Option<usize>, flag: &str| {
            given
                .or(named)
                .with_context(|| format!("give --{flag}, or a --shape to take it from"))
        };
        let of_named = |field: fn(&Shape) -> usize| named.as_ref().map(field);
        Ok(Shape {
            architecture: self
                .architecture
                .or(named.map(|shape| shape.architecture))
                .context("give --architecture or --shape")?,
            layers: get(self.layers, of_named(|shape| shape.layers), "layers")?,
            hidden: get(self.hidden, of_named(|shape| shape.hidden), "hidden")?,
            heads: get(self.heads, of_named(|shape| shape.heads), "heads")?,
            key_value_heads: self.kv_heads,
            context: get(self.context, of_named(|shape| shape.context), "context")?,
        })
    }
}

/// Makes the model and says how large it is; returns its folder.
///
/// # Errors
/// A sentence about the shape, a file of texts, or the folder.
pub fn run(command: &NewModelCommand) -> anyhow::Result<PathBuf> {
    let shape = command.shape()?;
    if command.out.exists() {
        bail!(
            "{} exists already; choose another folder",
            command.out.display()
        );
    }
    let n = shape.n_parameters(command.vocabulary)?;
    println!("{}", size("at most", command.vocabulary, n));
    let texts = scratch::read_texts(&command.texts)?;
    let wanted = NewModel {
        shape,
        vocabulary: command.vocabulary,
        seed: command.seed,
    };
    let n_tokens = scratch::write(&command.out, &wanted, &texts)?;
    if n_tokens < command.vocabulary {
        println!("the texts hold no more than {n_tokens} tokens; more texts give more");
        println!("{}", size("so", n_tokens, shape.n_parameters(n_tokens)?));
    }
    Ok(command.out.clone())
}

fn size(word: &str, n_tokens: usize, n_parameters: u64) -> String {
    format!(
        "{word} {n_tokens} tokens, {n_parameters} parameters, {:.1} MB in f32",
        n_parameters as f64 * 4.0 / 1e6
    )
}

/// Prints every named shape.
///
/// # Errors
/// Never, for shapes that fit together.
pub fn print_shapes() -> anyhow::Result<()> {
    println!(
        "shape         layers  hidden  heads  context  parameters with {GPT2_VOCABULARY} tokens"
    );
    for NamedShape { name, shape } in NamedShape::ALL {
        let n = shape.n_parameters(GPT2_VOCABULARY)?;
        let (layers, hidden, heads) = (shape.layers, shape.hidden, shape.heads);
        println!(
            "{name:<12}  {layers:>6}  {hidden:>6}  {heads:>5}  {:>7}  {n}",
            shape.context
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        command: NewModelCommand,
    }

    fn shape(words: &str) -> anyhow::Result<Shape> {
        let line = format!("new --texts a b.jsonl --out c {words}");
        Line::parse_from(line.split_whitespace()).command.shape()
    }

    #[test]
    fn what_is_given_differs_from_the_named_shape_and_what_is_missing_is_named() {
        let small = shape("--shape gpt2-small --layers 3").unwrap();
        assert_eq!((small.layers, small.hidden, small.context), (3, 768, 1024));
        let error = shape("--architecture gpt --layers 3")
            .unwrap_err()
            .to_string();
        assert!(error.contains("--hidden"), "{error}");
        let llama =
            "--architecture llama --layers 2 --hidden 32 --heads 4 --kv-heads 2 --context 64";
        assert_eq!(shape(llama).unwrap().key_value_heads, Some(2));
    }
}
