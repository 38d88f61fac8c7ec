//! Checks at the start of every run. A silent missing gradient or a mask that leaks makes training
//! worthless without an error, so a run that fails one refuses to start.

pub mod data;
pub mod devices;
pub mod files;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Tensor, Var};

use crate::error::Result;
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::lora;
use crate::model::segments::Segment;
use crate::model::transformer::Transformer;
use crate::optim::Gradients;
use crate::progress::Progress;
use crate::text::TextCodec;

/// Every trainable parameter has a gradient that is finite and not all zero. Where adapters learn,
/// `gradients` come from [`lora::while_open`]: as long as B is zero, so is the gradient by A.
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
    let has_adapter = variables.keys().any(|name| lora::is_adapter(name));
    let remark = match has_adapter {
        true => " (an adapter's B, where it is zero, held small drawn numbers meanwhile)",
        false => "",
    };
    let detail = match without.is_empty() {
        true => format!(
            "all {} trainable parameters receive a gradient{remark}",
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
    let mut difference = 0.0;
    for (index, text) in texts.iter().enumerate() {
        let bare = TokenBatch::new(&[text.to_vec()], pad_id, &model.device)?;
        let alone = bare.last(&model.hidden(&bare, Pass::Tracked)?.detach())?;
        let at = packed.segment_index(0, index, text.len() - 1) as usize;
        let apart = (alone - together.narrow(0, at, 1)?)?.abs()?;
        let apart = apart.flatten_all()?.to_vec1::<f32>()?;
        difference = largest(apart.into_iter().map(f64::from).chain([difference]));
    }
    let detail = format!("largest difference {difference:.2e}, at most 1e-3 allowed");
    progress.check(
        &format!("packing invariance: {name}"),
        difference < 1e-3,
        detail,
    )
}

/// Every position of rows that share their beginning gives the same as in a row of its own.
///
/// # Errors
/// `Refused`, with the largest difference.
pub fn sharing_invariance(
    name: &str,
    model: &Transformer,
    rows: &[Vec<u32>],
    progress: &mut dyn Progress,
) -> Result<()> {
    let shared = TokenBatch::alike(rows, &model.device)?;
    let together = model.hidden(&shared, Pass::Tracked)?.detach();
    let together = together.flatten(0, 1)?;
    let mut difference = 0.0;
    for (index, row) in rows.iter().enumerate() {
        let bare = TokenBatch::new(std::slice::from_ref(row), 0, &model.device)?;
        let alone = model.hidden(&bare, Pass::Tracked)?.detach().get(0)?;
        let places = (0..row.len()).map(|position| shared.flat_index(index, position));
        let places = Tensor::from_iter(places, &model.device)?;
        let apart = (alone - together.index_select(&places, 0)?)?.abs()?;
        let apart = apart.flatten_all()?.to_vec1::<f32>()?;
        difference = largest(apart.into_iter().map(f64::from).chain([difference]));
    }
    let detail = format!("largest difference {difference:.2e}, at most 1e-3 allowed");
    progress.check(
        &format!("a prompt shared by its completions: {name}"),
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
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::model::weights::{Trainable, Weights};
    use crate::progress::Silent;

    /// A model that computes nothing agrees with itself nowhere.
    #[test]
    fn a_model_whose_numbers_are_none_fails_the_checks_of_padding_and_packing() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let good = Transformer::load(&folder, &Device::Cpu, Trainable::Nothing).unwrap();
        let mut tensors = good.weights().tensors().clone();
        let name = "model.layers.1.mlp.down_proj.weight";
        let nan = Tensor::full(f32::NAN, tensors[name].shape(), &Device::Cpu).unwrap();
        tensors.insert(name.to_owned(), nan);
        let weights = Weights::from_tensors(tensors);
        let (config, nothing) = (good.config.clone(), Trainable::Nothing);
        let bad = Transformer::from_weights(config, weights, &Device::Cpu, nothing).unwrap();
        let texts: [&[u32]; 3] = [&[5, 6, 7], &[8, 9], &[10, 11, 12, 13]];
        for (model, holds) in [(&good, true), (&bad, false)] {
            let padded = padding_invariance("model", model, texts[0], 1, &mut Silent);
            let packed = packing_invariance("model", model, &texts, 1, &mut Silent);
            assert_eq!((padded.is_ok(), packed.is_ok()), (holds, holds));
            if let Err(error) = packed {
                assert!(
                    error.to_string().contains("largest difference NaN"),
                    "{error}"
                );
            }
        }
    }

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
