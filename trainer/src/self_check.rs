//! Checks at the start of every run. A silent missing gradient or a mask that leaks makes training
//! worthless without an error, so a run that fails one refuses to start.

pub mod files;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Var;

use crate::error::Result;
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::segments::Segment;
use crate::model::transformer::Transformer;
use crate::optim::Gradients;
use crate::progress::Progress;
use crate::text::TextCodec;

/// Every trainable parameter has a gradient that is finite and not all zero.
///
/// # Errors
/// `Refused`, naming the first parameters without one.
pub fn gradient_coverage(
    name: &str,
    variables: &BTreeMap<String, Var>,
    gradients: &Gradients,
    progress: &mut dyn Progress,
) -> Result<()> {
    let mut without = Vec::new();
    for parameter in variables.keys() {
        let norm = match gradients.get(parameter) {
            Some(gradient) => gradient.sqr()?.sum_all()?.to_scalar::<f32>()?,
            None => 0.0,
        };
        if !(norm > 0.0 && norm.is_finite()) {
            without.push(parameter.as_str());
        }
    }
    let detail = match without.is_empty() {
        true => format!(
            "all {} trainable parameters receive a gradient",
            variables.len()
        ),
        false => format!(
            "no gradient reaches {}",
            without[..without.len().min(5)].join(", ")
        ),
    };
    progress.check(
        &format!("gradient coverage: {name}"),
        without.is_empty() && !variables.is_empty(),
        detail,
    )
}

/// The largest of some distances, or NaN where one is: `f64::max` would pass over it, and a check
/// would hold of a model that computes nothing.
pub fn largest(distances: impl IntoIterator<Item = f64>) -> f64 {
    distances
        .into_iter()
        .fold(0.0, |largest, own| match own.is_nan() || own > largest {
            true if !largest.is_nan() => own,
            _ => largest,
        })
}

/// The last real position's output does not change when padding follows it.
///
/// # Errors
/// `Refused`, with the largest difference.
pub fn padding_invariance(
    name: &str,
    model: &Transformer,
    row: &[u32],
    pad_id: u32,
    progress: &mut dyn Progress,
) -> Result<()> {
    let bare = TokenBatch::new(&[row.to_vec()], pad_id, &model.device)?;
    let mut longer = row.to_vec();
    let room = model
        .config
        .max_position_embeddings
        .saturating_sub(row.len());
    longer.extend(std::iter::repeat_n(pad_id, room.min(7)));
    let padded = TokenBatch::new(&[row.to_vec(), longer], pad_id, &model.device)?;
    let mut difference = 0.0;
    // Where operations are not our own, frozen and tracked passes run different ones; both must
    // hold.
    for pass in [Pass::Frozen, Pass::Tracked] {
        let alone = model.hidden(&bare, pass)?.detach();
        let beside = model.hidden(&padded, pass)?.detach();
        let beside = beside.narrow(0, 0, 1)?.narrow(1, 0, row.len())?;
        let apart = (alone - beside)?.abs()?.flatten_all()?.to_vec1::<f32>()?;
        difference = largest(apart.into_iter().map(f64::from).chain([difference]));
    }
    let detail = format!("largest difference {difference:.2e}, at most 1e-3 allowed");
    progress.check(
        &format!("padding invariance: {name}"),
        difference < 1e-3,
        detail,
    )
}

/// The last position of a text gives the same in a row of its own as behind others in one row.
///
/// # Errors
/// `Refused`, with the largest difference.
pub fn packing_invariance(
    name: &str,
    model: &Transformer,
    texts: &[&[u32]],
    pad_id: u32,
    progress: &mut dyn Progress,
) -> Result<()> {
    let segments: Vec<Segment> = texts.iter().map(|text| Segment::alone(text)).collect();
    let packed = TokenBatch::packed(&[segments], pad_id, &model.device)?;
    let together = model.hidden(&packed, Pass::Tracked)?.detach().get(0)?;
    let mut difference = 0.0_f32;
    for (index, text) in texts.iter().enumerate() {
        let bare = TokenBatch::new(&[text.to_vec()], pad_id, &model.device)?;
        let alone = bare.last(&model.hidden(&bare, Pass::Tracked)?.detach())?;
        let at = packed.segment_index(0, index, text.len() - 1) as usize;
        let largest = (alone - together.narrow(0, at, 1)?)?.abs()?.max_all()?;
        difference = difference.max(largest.to_scalar::<f32>()?);
    }
    let detail = format!("largest difference {difference:.2e}, at most 1e-3 allowed");
    progress.check(
        &format!("packing invariance: {name}"),
        difference < 1e-3,
        detail,
    )
}

/// A reward model in `folder` reads what the policy writes: the same tokens, template and end.
///
/// # Errors
/// `Refused`, naming what differs.
pub fn same_language(
    codec: &TextCodec,
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<TextCodec> {
    let theirs = TextCodec::load(folder)?;
    let compare = |what: &str, ours: &str, theirs: &str| match ours == theirs {
        true => format!("policy and reward model: SHA-256 {}", files::short(ours)),
        false => format!(
            "policy and reward model must have the same {what}: SHA-256 {} and {}",
            files::short(ours),
            files::short(theirs)
        ),
    };
    let (ours, other) = (codec.vocab_hash(), theirs.vocab_hash());
    let detail = compare("tokenizer.json", ours, other);
    progress.check("vocabulary", ours == other, detail)?;
    let (ours, other) = (codec.template_hash(), theirs.template_hash());
    let detail = compare("chat template", &ours, &other);
    progress.check("chat template", ours == other, detail)?;
    progress.check(
        "end of text",
        codec.eos_id == theirs.eos_id,
        "policy and reward model must end a completion with the same token",
    )?;
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_distance_is_nan_where_one_is() {
        assert_eq!(largest([0.5, 2.0, 1.0]), 2.0);
        assert_eq!(largest([]), 0.0);
        for place in 0..3 {
            let mut distances = [0.5, 2.0, 1.0];
            distances[place] = f64::NAN;
            assert!(largest(distances).is_nan());
        }
    }
}
