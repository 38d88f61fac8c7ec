//! Pretraining texts that are mixed in (InstructGPT, C.3), all of whose tokens are learnt.

use std::path::Path;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::LearningRow;
use crate::error::Result;
use crate::records::{self, Placed, TextRecord};
use crate::rng::stream;
use crate::text::TextCodec;

/// The texts of a file, cut to rows of up to `longest` tokens.
///
/// # Errors
/// The first one that cannot be read, by line and field; or that all are too short to learn from.
pub(crate) fn read_texts(
    path: &Path,
    codec: &TextCodec,
    longest: usize,
) -> Result<Vec<LearningRow>> {
    let records: Vec<Placed<TextRecord>> = records::read_placed(path)?;
    let mut rows = Vec::new();
    for placed in &records {
        let tokens = placed.at_field("text", codec.encode(&placed.record.text))?;
        for chunk in tokens.chunks(longest).filter(|chunk| chunk.len() > 1) {
            rows.push(LearningRow {
                tokens: chunk.to_vec(),
                start: 1,
            });
        }
    }
    // Without a row the pretraining term would be off, though texts were given.
    if rows.is_empty() {
        let message = "has fewer than 2 tokens, as has every other text";
        return Err(records[0].error("text", message));
    }
    Ok(rows)
}

/// How far a run is in its texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TextPlace {
    /// Rows that were learnt from, over all passes.
    pub(super) rows: usize,
    /// Their learnt tokens.
    pub(super) tokens: usize,
    /// Learnt tokens of demonstrations beside them.
    pub(super) beside: usize,
}

/// Rows of texts, in a new order on each pass.
pub(super) struct Texts {
    rows: Vec<LearningRow>,
    share: f64,
    seed: u64,
    pass: usize,
    order: Vec<usize>,
}

impl Texts {
    /// `share` of the learnt tokens shall be these rows'; below 1.
    pub(super) fn new(rows: Vec<LearningRow>, share: f64, seed: u64) -> Self {
        let mut texts = Self {
            rows,
            share,
            seed,
            pass: 0,
            order: Vec::new(),
        };
        texts.draw_order(0);
        texts
    }

    fn draw_order(&mut self, pass: usize) {
        self.pass = pass;
        self.order = (0..self.rows.len()).collect();
        let mut rng = stream(self.seed, "texts beside demonstrations", pass as u64);
        self.order.shuffle(&mut rng);
    }

    /// The rows that go with `n` learnt tokens of demonstrations, and the place behind them. Each
    /// comes when half of it is due, so that the share is right over many steps.
    pub(super) fn draw(&mut self, mut place: TextPlace, n: usize) -> (Vec<usize>, TextPlace) {
        place.beside += n;
        let mut drawn = Vec::new();
        if self.rows.is_empty() {
            return (drawn, place);
        }
        let due = place.beside as f64 * self.share / (1.0 - self.share);
        loop {
            let pass = place.rows / self.rows.len();
            if pass != self.pass {
                self.draw_order(pass);
            }
            let next = self.order[place.rows % self.rows.len()];
            let n = self.rows[next].n_learnt();
            if place.tokens as f64 + n as f64 / 2.0 > due {
                return (drawn, place);
            }
            drawn.push(next);
            place.rows += 1;
            place.tokens += n;
        }
    }

    pub(super) fn rows(&self) -> &[LearningRow] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        let row = |n: usize| LearningRow {
            tokens: vec![n as u32; n],
            start: 1,
        };
        Texts::new((5..25).map(row).collect(), 0.1, 1)
    }

    #[test]
    fn a_tenth_of_what_is_learnt_is_texts_and_no_row_comes_twice_in_a_pass() {
        let mut texts = texts();
        let (mut place, mut drawn) = (TextPlace::default(), Vec::new());
        for step in 0..200 {
            let (rows, next) = texts.draw(place, 40 + step % 7);
            drawn.extend(rows);
            place = next;
            let due = place.beside as f64 / 9.0;
            assert!((place.tokens as f64 - due).abs() <= 12.0, "{place:?}");
        }
        assert_eq!(drawn.len(), place.rows);
        assert!(drawn.len() > 60);
        for pass in drawn.chunks_exact(20) {
            let mut pass = pass.to_vec();
            pass.sort_unstable();
            assert_eq!(pass, (0..20).collect::<Vec<_>>());
        }
        assert_ne!(drawn[..20], drawn[20..40]);
    }

    #[test]
    fn a_stream_goes_on_from_its_place() {
        let mut straight = texts();
        let mut place = TextPlace::default();
        for _ in 0..60 {
            let drawn = straight.draw(place, 50);
            assert_eq!(texts().draw(place, 50), drawn);
            place = drawn.1;
        }
        assert!(place.rows > 20, "a second pass has begun");
    }

    #[test]
    fn without_texts_or_a_share_there_are_none() {
        let mut none = Texts::new(Vec::new(), 0.1, 1);
        assert!(none.draw(TextPlace::default(), 1000).0.is_empty());
        let mut off = texts();
        off.share = 0.0;
        assert!(off.draw(TextPlace::default(), 1000).0.is_empty());
    }
}
