//! How rankings go through the network: all completions of one in a packed row, in which what they
//! have in common at their beginning, their prompt, is there once.

use std::ops::Range;

use candle_core::Tensor;

use super::groups::Group;
use crate::error::Result;
use crate::model::batch::TokenBatch;
use crate::model::transformer::Transformer;

/// Completions of one ranking that share a beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    /// The ranking's place among those of the pass.
    pub(crate) group: usize,
    /// Which of its bundles it is.
    part: usize,
    /// The rows of its completions.
    pub(crate) rows: Range<usize>,
}

/// The passes of rankings with so many completions each, of at most `limit` completions. A ranking
/// stays together; one of more completions is divided into even parts, each of which has the prompt.
pub(crate) fn passes(sizes: impl IntoIterator<Item = usize>, limit: usize) -> Vec<Vec<Bundle>> {
    let limit = limit.max(1);
    let mut passes: Vec<Vec<Bundle>> = Vec::new();
    let mut taken = limit;
    for (group, size) in sizes.into_iter().enumerate() {
        for (part, rows) in even_parts(size, limit).enumerate() {
            taken += rows.len();
            let bundle = Bundle { group, part, rows };
            match passes.last_mut() {
                Some(pass) if taken <= limit => pass.push(bundle),
                _ => {
                    taken = bundle.rows.len();
                    passes.push(vec![bundle]);
                }
            }
        }
    }
    passes
}

/// `0..n` in the fewest parts of at most `limit`, whose sizes differ by at most one.
fn even_parts(n: usize, limit: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = n.div_ceil(limit);
    (0..parts).map(move |part| part * n / parts..(part + 1) * n / parts)
}

/// The batch of a pass and the output of the frozen blocks for it, `[1, tokens, hidden]`: what is
/// kept of it, or new ones, which are kept while there is `room` for so many bytes. Each bundle is
/// computed alone, so that what is kept is the same whatever passes beside it: a run that was stopped
/// comes by its batches in another order.
pub(crate) fn lower_of(
    model: &Transformer,
    groups: &mut [&mut Group],
    pass: &[Bundle],
    room: &mut usize,
) -> Result<(TokenBatch, Tensor)> {
    let views = pass
        .iter()
        .flat_map(|bundle| &groups[bundle.group].rows[bundle.rows.clone()]);
    let views: Vec<&[u32]> = views.map(Vec::as_slice).collect();
    let mut first = 0;
    let sets = pass.iter().map(|bundle| {
        first += bundle.rows.len();
        (first - bundle.rows.len()..first).collect()
    });
    let sets: Vec<Vec<usize>> = sets.collect();
    let batch = TokenBatch::sharing(&views, &sets, &model.device)?;
    if model.n_frozen() == 0 {
        let lower = model.lower(&batch)?;
        return Ok((batch, lower));
    }
    let mut all = Vec::with_capacity(pass.len());
    for bundle in pass {
        let group = &mut groups[bundle.group];
        if let Some(kept) = &group.lowers[bundle.part] {
            all.push(kept.clone());
            continue;
        }
        let alone = TokenBatch::alike(&group.rows[bundle.rows.clone()], &model.device)?;
        let own = model.lower(&alone)?.squeeze(0)?.detach();
        let bytes = own.elem_count() * size_of::<f32>();
        if bytes <= *room {
            *room -= bytes;
            group.lowers[bundle.part] = Some(own.clone());
        }
        all.push(own);
    }
    let lower = match all.as_slice() {
        [one] => one.clone(),
        all => Tensor::cat(all, 0)?,
    };
    Ok((batch, lower.unsqueeze(0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rankings_stay_together_and_those_too_large_are_divided_evenly() {
        let found = |sizes: &[usize], limit| -> Vec<Vec<(usize, usize, Range<usize>)>> {
            let passes = passes(sizes.iter().copied(), limit).into_iter();
            let bundles = |pass: Vec<Bundle>| {
                let bundles = pass.into_iter();
                let bundles = bundles.map(|bundle| (bundle.group, bundle.part, bundle.rows));
                bundles.collect()
            };
            passes.map(bundles).collect()
        };
        let expected = vec![vec![(0, 0, 0..4), (1, 0, 0..5)], vec![(2, 0, 0..4)]];
        assert_eq!(found(&[4, 5, 4], 9), expected);
        let expected = vec![
            vec![(0, 0, 0..1), (1, 0, 0..3)],
            vec![(1, 1, 3..6)],
            vec![(1, 2, 6..10)],
            vec![(2, 0, 0..2)],
        ];
        assert_eq!(found(&[1, 10, 2], 4), expected);
        assert_eq!(found(&[2], 1), [[(0, 0, 0..1)], [(0, 1, 1..2)]]);
        assert!(found(&[], 4).is_empty());
    }
}
