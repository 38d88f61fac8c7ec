//! Checks at the start of every run. A silent missing gradient or a mask that leaks makes training
//! worthless without an error, so a run that fails one refuses to start.

use std::collections::BTreeMap;

use candle_core::Var;

use crate::error::Result;
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::lora;
use crate::model::transformer::Transformer;
use crate::optim::Gradients;
use crate::progress::Progress;

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
    let mut difference = 0.0_f32;
    // Where operations are not our own, frozen and tracked passes run different ones; both must
    // hold.
    for pass in [Pass::Frozen, Pass::Tracked] {
        let alone = model.hidden(&bare, pass)?.detach();
        let beside = model.hidden(&padded, pass)?.detach();
        let beside = beside.narrow(0, 0, 1)?.narrow(1, 0, row.len())?;
        let largest = (alone - beside)?.abs()?.max_all()?.to_scalar::<f32>()?;
        difference = difference.max(largest);
    }
    let detail = format!("largest difference {difference:.2e}, at most 1e-3 allowed");
    progress.check(
        &format!("padding invariance: {name}"),
        difference < 1e-3,
        detail,
    )
}
