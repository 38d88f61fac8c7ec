//! From rows of tokens, of which a part is to be learnt, to the loss and its gradient.

use std::borrow::Borrow;

use candle_core::Tensor;

use super::packing::micro_batches;
use crate::error::Result;
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::dropout::Dropout;
use crate::model::segments::Segment;
use crate::model::token_log_probs;
use crate::model::transformer::Transformer;
use crate::nn::backward::backward;
use crate::optim::Gradients;
use crate::progress::Progress;

/// A token row whose tokens from `start` on are to be learnt.
pub struct LearningRow {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// First token that counts.
    pub start: usize,
}

impl LearningRow {
    /// What is given: for a demonstration the prompt, as the model reads it.
    pub fn given(&self) -> &[u32] {
        &self.tokens[..self.start]
    }

    /// How many tokens are learnt; the first of a row never is, since nothing comes before it.
    pub fn n_learnt(&self) -> usize {
        self.tokens.len() - self.start.max(1)
    }
}

/// How rows go through the network.
#[derive(Clone, Copy, Default)]
pub struct Feed<'a> {
    /// All in one row, rather than one below the other and padded.
    pub is_packed: bool,
    /// What is dropped in this pass.
    pub dropout: Option<&'a Dropout>,
}

/// Positions whose next token is learnt, and those tokens, over a padded batch.
pub fn learning_positions<R: Borrow<LearningRow>>(
    batch: &TokenBatch,
    rows: &[R],
) -> (Vec<u32>, Vec<u32>) {
    positions_at(rows, |row, position| batch.flat_index(row, position))
}

fn positions_at<R: Borrow<LearningRow>>(
    rows: &[R],
    index: impl Fn(usize, usize) -> u32,
) -> (Vec<u32>, Vec<u32>) {
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for (number, row) in rows.iter().map(Borrow::borrow).enumerate() {
        for position in row.start.max(1)..row.tokens.len() {
            positions.push(index(number, position - 1));
            targets.push(row.tokens[position]);
        }
    }
    (positions, targets)
}

/// Adds `weight` times the gradient of the summed negative log-likelihood of the rows' learnt
/// tokens; returns `weight` times that sum.
///
/// # Errors
/// When the device has no memory.
pub fn add_gradient(
    model: &Transformer,
    rows: &[LearningRow],
    pad_id: u32,
    weight: f64,
    gradients: &mut Gradients,
) -> Result<f64> {
    add_gradient_of(model, rows, Feed::default(), pad_id, weight, gradients)
}

/// The same, fed in a way of one's own.
///
/// # Errors
/// When the device has no memory.
pub fn add_gradient_of<R: Borrow<LearningRow>>(
    model: &Transformer,
    rows: &[R],
    feed: Feed,
    pad_id: u32,
    weight: f64,
    gradients: &mut Gradients,
) -> Result<f64> {
    let (hidden, targets) = learnt_hidden(model, rows, feed, pad_id, Pass::Tracked)?;
    let slope = |_, log_probs: &[f32]| Ok(vec![-weight as f32; log_probs.len()]);
    let (log_probs, scalar) = token_log_probs::learn(&hidden, model.head(), &targets, 1.0, slope)?;
    gradients.add(&backward(&scalar)?, model.weights().variables(), 1.0)?;
    let sum: f64 = log_probs.into_iter().map(f64::from).sum();
    Ok(-weight * sum)
}

/// The network's output at the positions whose next token is learnt, and those tokens.
fn learnt_hidden<R: Borrow<LearningRow>>(
    model: &Transformer,
    rows: &[R],
    feed: Feed,
    pad_id: u32,
    pass: Pass,
) -> Result<(Tensor, Tensor)> {
    let all = rows.iter().map(|row| row.borrow().tokens.as_slice());
    let (batch, (positions, targets)) = if feed.is_packed {
        let segments = all.map(Segment::alone).collect();
        let batch = TokenBatch::packed(&[segments], pad_id, &model.device)?;
        let found = positions_at(rows, |row, position| batch.segment_index(0, row, position));
        (batch, found)
    } else {
        let tokens: Vec<Vec<u32>> = all.map(<[u32]>::to_vec).collect();
        let batch = TokenBatch::new(&tokens, pad_id, &model.device)?;
        let found = learning_positions(&batch, rows);
        (batch, found)
    };
    let n = positions.len();
    let hidden = model.hidden_with(&batch, pass, feed.dropout)?;
    let positions = Tensor::from_vec(positions, n, &model.device)?;
    let hidden = hidden.flatten(0, 1)?.index_select(&positions, 0)?;
    Ok((hidden, Tensor::from_vec(targets, n, &model.device)?))
}

/// Rows of one step: demonstrations, and texts that are mixed in.
pub(super) struct Batch<'a> {
    pub(super) demonstrations: Vec<&'a LearningRow>,
    pub(super) texts: Vec<&'a LearningRow>,
}

/// How a run feeds its rows.
pub(super) struct Feeding {
    pub(super) pack_tokens: Option<usize>,
    /// Rows side by side where nothing is packed.
    pub(super) micro_rows: usize,
    pub(super) dropout: f64,
    pub(super) seed: u64,
    pub(super) pad_id: u32,
}

/// Mean losses of a step, in nats for each learnt token.
pub(super) struct Losses {
    pub(super) demonstrations: f64,
    /// None where no text was learnt.
    pub(super) texts: Option<f64>,
}

impl Feeding {
    fn micro_batches<'a, R: Borrow<LearningRow>>(
        &self,
        rows: &'a [R],
    ) -> Vec<Vec<&'a LearningRow>> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.borrow().tokens.len()).collect();
        let pick = |indexes: Vec<usize>| indexes.iter().map(|i| rows[*i].borrow()).collect();
        let batches = micro_batches(&lengths, self.pack_tokens, self.micro_rows);
        batches.into_iter().map(pick).collect()
    }

    /// The gradient of the mean loss of a batch's learnt tokens, with the dropout of step `step`.
    pub(super) fn gradient(
        &self,
        model: &Transformer,
        batch: &Batch,
        step: usize,
        progress: &mut dyn Progress,
    ) -> Result<(Gradients, Losses)> {
        let n_learnt = |rows: &[&LearningRow]| rows.iter().map(|row| row.n_learnt()).sum::<usize>();
        let parts = [&batch.demonstrations, &batch.texts];
        let n = parts.map(|rows| n_learnt(rows));
        let weight = 1.0 / (n[0] + n[1]) as f64;
        let mut gradients = Gradients::default();
        let mut means = [0.0; 2];
        let mut part = 0;
        for (index, rows) in parts.into_iter().enumerate() {
            for micro in self.micro_batches(rows) {
                progress.go_on()?;
                let dropout = Dropout::new(self.dropout, self.seed, step, part);
                let feed = Feed {
                    is_packed: self.pack_tokens.is_some(),
                    dropout: dropout.as_ref(),
                };
                part += 1;
                let (pad_id, gradients) = (self.pad_id, &mut gradients);
                let loss = add_gradient_of(model, &micro, feed, pad_id, weight, gradients)?;
                means[index] += loss * (n[0] + n[1]) as f64 / n[index] as f64;
            }
        }
        let losses = Losses {
            demonstrations: means[0],
            texts: (n[1] > 0).then_some(means[1]),
        };
        Ok((gradients, losses))
    }

    /// Mean negative log-likelihood of a learnt token, in nats, without dropout; none where there
    /// are no rows.
    pub(super) fn mean_loss(
        &self,
        model: &Transformer,
        rows: &[LearningRow],
        progress: &mut dyn Progress,
    ) -> Result<Option<f64>> {
        let feed = Feed {
            is_packed: self.pack_tokens.is_some(),
            dropout: None,
        };
        let (mut sum, mut n) = (0.0, 0);
        for micro in self.micro_batches(rows) {
            progress.go_on()?;
            let (hidden, targets) = learnt_hidden(model, &micro, feed, self.pad_id, Pass::Frozen)?;
            let read = token_log_probs::evaluate(&hidden, model.head(), &targets, 1.0)?;
            n += read.log_prob.dim(0)?;
            sum -= f64::from(read.log_prob.sum_all()?.to_scalar::<f32>()?);
        }
        Ok((n > 0).then(|| sum / n as f64))
    }
}

/// Mean negative log-likelihood of a learnt token, in nats, `micro_rows` rows side by side; none
/// where there are no rows.
pub(crate) fn held_out_loss(
    model: &Transformer,
    rows: &[LearningRow],
    micro_rows: usize,
    pad_id: u32,
    progress: &mut dyn Progress,
) -> Result<Option<f64>> {
    let feeding = Feeding {
        pack_tokens: None,
        micro_rows,
        dropout: 0.0,
        seed: 0,
        pad_id,
    };
    feeding.mean_loss(model, rows, progress)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::Path;

    use candle_core::Device;

    use super::*;
    use crate::model::weights::Trainable;
    use crate::progress::Silent;

    /// Item 9 of the checklist: the answer and its EOS are learnt, the prompt is not.
    #[test]
    fn only_the_answer_is_learnt_and_padding_never() {
        let row = |tokens: &[u32], start| LearningRow {
            tokens: tokens.to_vec(),
            start,
        };
        let rows = [row(&[5, 6, 7, 1], 2), row(&[5, 1], 1)];
        let tokens: Vec<Vec<u32>> = rows.iter().map(|row| row.tokens.clone()).collect();
        let batch = TokenBatch::new(&tokens, 1, &Device::Cpu).unwrap();
        let (positions, targets) = learning_positions(&batch, &rows);
        assert_eq!(targets, [7, 1, 1]);
        assert_eq!(positions, [1, 2, 4]);
    }

    /// Item 9 again: the loss is that of the answer's tokens and EOS, read off the logits.
    #[test]
    fn the_loss_is_the_log_probability_of_the_answer_and_its_eos() {
        let model = model("tiny");
        let row = LearningRow {
            tokens: vec![5, 6, 7, 8, 9, 2],
            start: 3,
        };
        let batch = TokenBatch::new(std::slice::from_ref(&row.tokens), 2, &Device::Cpu).unwrap();
        let hidden = model.hidden(&batch, Pass::Tracked).unwrap();
        let logits = model.logits(&hidden.squeeze(0).unwrap()).unwrap();
        let logits: Vec<Vec<f32>> = logits.to_vec2().unwrap();
        let log_prob = |place: usize| {
            let seen: Vec<f64> = logits[place - 1].iter().map(|it| f64::from(*it)).collect();
            let total: f64 = seen.iter().map(|it| it.exp()).sum();
            seen[row.tokens[place] as usize] - total.ln()
        };
        let wanted: f64 = -(3..6).map(log_prob).sum::<f64>();
        let mut gradients = Gradients::default();
        let found =
            add_gradient(&model, std::slice::from_ref(&row), 2, 1.0, &mut gradients).unwrap();
        assert!((found - wanted).abs() < 1e-4 * wanted, "{found} {wanted}");
    }

    fn model(name: &str) -> Transformer {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let model = Transformer::load(&fixtures.join(name), &Device::Cpu, Trainable::Everything);
        model.unwrap()
    }

    /// Rows of 4 to 12 tokens of a vocabulary of 61.
    fn rows(n: u32) -> Vec<LearningRow> {
        let row = |i: u32| LearningRow {
            tokens: (0..4 + 5 * i % 9)
                .map(|t| 3 + (7 * i + 11 * t) % 57)
                .collect(),
            start: 1 + i as usize % 3,
        };
        (0..n).map(row).collect()
    }

    fn largest(tensor: &Tensor) -> f32 {
        let largest = tensor.abs().unwrap().max_all().unwrap();
        largest.to_scalar().unwrap()
    }

    /// To 1e-5 of a gradient's largest number. Those of a key's bias are 0 but for rounding, since
    /// softmax takes no notice of what all scores share; they count as a hundredth of the largest.
    fn assert_same(model: &Transformer, some: &Gradients, others: &Gradients) {
        let names = || model.weights().variables().keys();
        let least = names().map(|name| largest(others.get(name).unwrap()));
        let least = 0.01 * least.fold(0.0, f32::max);
        for name in names() {
            let (a, b) = (some.get(name).unwrap(), others.get(name).unwrap());
            let relative = largest(&(a - b).unwrap()) / largest(b).max(least);
            assert!(relative < 1e-5, "{name}: {relative:e}");
        }
    }

    fn feeding(pack_tokens: Option<usize>, dropout: f64) -> Feeding {
        Feeding {
            pack_tokens,
            micro_rows: 4,
            dropout,
            seed: 1,
            pad_id: 2,
        }
    }

    fn batch(rows: &[LearningRow]) -> Batch<'_> {
        Batch {
            demonstrations: rows[..rows.len() / 2].iter().collect(),
            texts: rows[rows.len() / 2..].iter().collect(),
        }
    }

    /// Item 50: micro-batches, weighted by tokens, are one large batch.
    #[test]
    fn gradients_added_up_are_those_of_one_large_batch() {
        let (model, rows) = (model("tiny"), rows(10));
        let (parts, losses) = feeding(None, 0.0)
            .gradient(&model, &batch(&rows), 0, &mut Silent)
            .unwrap();
        let n = |rows: &[LearningRow]| rows.iter().map(LearningRow::n_learnt).sum::<usize>() as f64;
        let mut whole = Gradients::default();
        let at_once = add_gradient(&model, &rows, 2, 1.0 / n(&rows), &mut whole).unwrap();
        let loss = losses.demonstrations * n(&rows[..5]) + losses.texts.unwrap() * n(&rows[5..]);
        assert!((loss / n(&rows) - at_once).abs() < 1e-5);
        assert_same(&model, &parts, &whole);
    }

    /// In networks with rotating and with learned positions, with norms of heads, and with norms
    /// after each layer.
    #[test]
    fn packing_changes_neither_the_loss_nor_a_gradient() {
        for name in [
            "tiny",
            "families/gpt2",
            "families/qwen3",
            "families/openai-gpt",
        ] {
            let (model, rows) = (model(name), rows(10));
            let learn = |pack_tokens| {
                let feeding = feeding(pack_tokens, 0.0);
                let mean = feeding.mean_loss(&model, &rows, &mut Silent).unwrap();
                let made = feeding
                    .gradient(&model, &batch(&rows), 0, &mut Silent)
                    .unwrap();
                (made.0, made.1.demonstrations, mean.unwrap())
            };
            let alone = learn(None);
            // Several rows of several texts; and one that is longer than the context.
            for tokens in [20, 1000] {
                let packed = learn(Some(tokens));
                assert!((packed.1 - alone.1).abs() < 1e-5, "{name}");
                assert!((packed.2 - alone.2).abs() < 1e-5, "{name}");
                assert_same(&model, &packed.0, &alone.0);
            }
        }
    }

    /// Item 12, for SFT: the held-out loss is without it, training passes are not.
    #[test]
    fn dropout_is_drawn_by_step_and_reaches_no_measurement() {
        let (model, rows) = (model("families/gpt2"), rows(10));
        for pack_tokens in [None, Some(40)] {
            let (with, without) = (feeding(pack_tokens, 0.3), feeding(pack_tokens, 0.0));
            let mean = |feeding: &Feeding| feeding.mean_loss(&model, &rows, &mut Silent).unwrap();
            assert_eq!(mean(&with), mean(&without));
            let loss = |feeding: &Feeding, step| {
                let made = feeding.gradient(&model, &batch(&rows), step, &mut Silent);
                made.unwrap().1.demonstrations
            };
            assert_eq!(loss(&with, 3), loss(&with, 3));
            assert_ne!(loss(&with, 3), loss(&with, 4));
            assert_ne!(loss(&with, 3), loss(&without, 3));
            assert_eq!(loss(&without, 3), loss(&without, 4));
        }
    }

    /// With one mask, the loss is a function of the weights like any other.
    #[test]
    fn the_gradient_under_dropout_is_that_of_finite_differences() {
        let (model, rows) = (model("families/gpt2"), rows(6));
        let dropout = Dropout::new(0.2, 1, 0, 0).unwrap();
        let feed = Feed {
            is_packed: true,
            dropout: Some(&dropout),
        };
        let loss = |gradients: &mut Gradients| {
            add_gradient_of(&model, &rows, feed, 2, 1.0, gradients).unwrap()
        };
        let mut gradients = Gradients::default();
        loss(&mut gradients);
        for (name, variable) in model.weights().variables() {
            let gradient = gradients.get(name).unwrap();
            let norm = gradient.sqr().unwrap().sum_all().unwrap().sqrt().unwrap();
            let norm = f64::from(norm.to_scalar::<f32>().unwrap());
            if name.ends_with("k_proj.bias") {
                // Softmax takes no notice of what all scores share.
                assert!(norm < 1e-4, "{name}: {norm}");
                continue;
            }
            let value = variable.as_tensor().copy().unwrap();
            let moved = |step: f64| {
                // Along the gradient, where the loss grows by its norm.
                let by = (gradient * (step / norm)).unwrap();
                variable.set(&(&value + by).unwrap()).unwrap();
                loss(&mut Gradients::default())
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            variable.set(&value).unwrap();
            assert!((slope / norm - 1.0).abs() < 2e-2, "{name}: {slope} {norm}");
        }
    }
}
