//! A file of prompts with five completions each, about 3.4 kB a line: words in sentences, with the
//! Markdown that models like to write. The same every time.

use std::io::{BufWriter, Write};
use std::path::Path;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde_json::json;

/// Candidates of a task.
pub(crate) const K: usize = 5;

/// Characters of a completion, about; a line is 3,380 bytes long on average, so that 100,000 are
/// 338 MB.
const LENGTH: usize = 510;

const WORDS: &str = "the of and to in is that it was for on are as with his they at be this from have or by one had \
    not but what all were when we there can an your which their said if do will each about how up out them then she \
    many some so these would other into has more her two like him see time could no make than first been its who now \
    people my made over did down only way find use may water long little very after words called just where most know \
    answer question reason example because model number letter result between before method simple value process \
    important different several possible however therefore usually although language energy history science market \
    computer temperature government population information relationship environment development understanding";

/// Writes `n` lines; returns their length in bytes.
pub(crate) fn write(path: &Path, n: usize) -> anyhow::Result<u64> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut rng = ChaCha12Rng::seed_from_u64(2203_02155);
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    for task in 0..n {
        let completions: Vec<_> = (1..=K)
            .map(|k| {
                let text = markdown(&words, LENGTH, &mut rng);
                json!({"id": format!("p{task}-{k}"), "text": text, "model": format!("model-{k}")})
            })
            .collect();
        let prompt = format!("Task {task}. {}?", sentence(&words, 16, &mut rng));
        let line = json!({
            "id": format!("p{task}"),
            "prompt": prompt,
            "category": "open_qa",
            "completions": completions,
        });
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    Ok(std::fs::metadata(path)?.len())
}

/// Paragraphs, a list and a little emphasis, of about `length` characters.
fn markdown(words: &[&str], length: usize, rng: &mut ChaCha12Rng) -> String {
    let mut text = String::with_capacity(length + 100);
    while text.len() < length {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        match rng.random_range(0..4) {
            0 => {
                for _ in 0..3 {
                    text.push_str(&format!("- **{}**: ", sentence(words, 1, rng)));
                    text.push_str(&format!("{}.\n", sentence(words, 6, rng)));
                }
            }
            1 => text.push_str(&format!(
                "Use `{}` here. {}.",
                sentence(words, 2, rng),
                sentence(words, 14, rng)
            )),
            _ => {
                let long = sentence(words, 18, rng);
                text.push_str(&format!("{long}. {}.", sentence(words, 12, rng)));
            }
        }
    }
    text
}

fn sentence(words: &[&str], n: usize, rng: &mut ChaCha12Rng) -> String {
    let chosen: Vec<&str> = (0..n).filter_map(|_| words.choose(rng).copied()).collect();
    chosen.join(" ")
}
