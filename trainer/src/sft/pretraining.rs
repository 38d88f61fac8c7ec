//! Pretraining: rows of plain texts in which every token is learnt.

use std::path::Path;

use rand::seq::SliceRandom;

use super::LearningRow;
use crate::error::Result;
use crate::records::{self, Placed, TextRecord};
use crate::rng::stream;
use crate::split;
use crate::text::TextCodec;

/// Rows of at most `longest` tokens from the texts of a file, to train on and held out. What is held
/// out is held out by text: no text has rows on both sides.
///
/// Texts follow each other in a drawn order, each ended by EOS, and rows are cut from that, so a row
/// may hold the end of a text and the beginning of the next (as GPT-3 was trained: arXiv 2005.14165,
/// appendix B). The first token of a row is given, since nothing stands before it.
///
/// # Errors
/// The first text that cannot be read, by line and field.
pub(super) fn read(
    path: &Path,
    codec: &TextCodec,
    longest: usize,
    held_out_share: f64,
    seed: u64,
) -> Result<(Vec<LearningRow>, Vec<LearningRow>)> {
    let records: Vec<Placed<TextRecord>> = records::read_placed(path)?;
    let mut texts = Vec::with_capacity(records.len());
    for placed in &records {
        texts.push(placed.at_field("text", codec.encode_completion(&placed.record.text))?);
    }
    let (mut train, held_out) = split::hold_out(texts, Vec::as_slice, held_out_share, seed);
    train.shuffle(&mut stream(seed, "order of texts", 0));
    Ok((cut(&train, longest), cut(&held_out, longest)))
}

/// Rows of `longest` tokens; the last one takes what is left, if that is more than a token.
fn cut(texts: &[Vec<u32>], longest: usize) -> Vec<LearningRow> {
    let tokens = texts.concat();
    let rows = tokens.chunks(longest).filter(|row| row.len() > 1);
    rows.map(|row| LearningRow {
        tokens: row.to_vec(),
        start: 1,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn codec() -> TextCodec {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        TextCodec::load(&folder).unwrap()
    }

    fn rows(n_texts: usize, longest: usize, share: f64) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("texts.jsonl");
        let line = |index: usize| format!("{{\"text\":\"cat {index} sat on the mat\"}}\n");
        std::fs::write(&file, (0..n_texts).map(line).collect::<String>()).unwrap();
        let (train, held_out) = read(&file, &codec(), longest, share, 7).unwrap();
        let tokens = |rows: Vec<LearningRow>| {
            rows.into_iter()
                .map(|row| {
                    assert_eq!(row.start, 1);
                    row.tokens
                })
                .collect()
        };
        (tokens(train), tokens(held_out))
    }

    /// The texts of rows, by their EOS, in the order of the alphabet.
    fn texts(rows: &[Vec<u32>]) -> Vec<String> {
        let codec = codec();
        let tokens = rows.concat();
        let texts = tokens.split_inclusive(|token| *token == codec.eos_id);
        let mut texts: Vec<String> = texts
            .map(|text| {
                assert_eq!(text.last(), Some(&codec.eos_id));
                codec.decode(text).unwrap()
            })
            .collect();
        texts.sort();
        texts
    }

    #[test]
    fn rows_hold_every_text_once_with_its_eos_and_are_full_but_the_last() {
        let (train, held_out) = rows(30, 16, 0.0);
        assert!(held_out.is_empty());
        let (last, full) = train.split_last().unwrap();
        assert!(full.iter().all(|row| row.len() == 16) && last.len() <= 16);
        let mut wanted: Vec<String> = (0..30).map(|i| format!("cat {i} sat on the mat")).collect();
        wanted.sort();
        assert_eq!(texts(&train), wanted);
    }

    #[test]
    fn no_text_is_on_both_sides() {
        let (train, held_out) = rows(30, 16, 0.2);
        let (train, held_out) = (texts(&train), texts(&held_out));
        assert_eq!((train.len(), held_out.len()), (24, 6));
        assert!(held_out.iter().all(|text| !train.contains(text)));
    }
}
