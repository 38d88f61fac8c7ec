//! The gradients of attention by queries, keys and values. With P the probabilities of a block, O
//! its result and G the gradient by that: dV = P' G; dP = G V'; dS = P (dP - rowsum(G O)); and, with
//! the scale in Q, dQ = dS K, dK = dS' Q.

use rayon::prelude::*;

use super::sight;
use super::{Block, Keys, Left, Plan, Right, Scratch, Size, Text, product, simd};

/// Of one tree and head.
struct Parts {
    /// `[queries, dim]`, text after text.
    by_q: Vec<f32>,
    /// `[keys, dim]`.
    by_k: Vec<f32>,
    by_v: Vec<f32>,
}

/// What each block goes by.
#[derive(Clone, Copy)]
struct Given<'a> {
    q: &'a [f32],
    result: &'a [f32],
    gradient: &'a [f32],
    keys: &'a Keys,
    tree: usize,
    head: usize,
}

/// By queries, keys and values, each in its own layout.
pub(super) fn gradients(
    plan: &Plan,
    [q, k, v]: [&[f32]; 3],
    result: &[f32],
    gradient: &[f32],
) -> [Vec<f32>; 3] {
    let keys = plan.keys(k, Some(v));
    let parts = plan.for_each(plan.heads, |tree, head| {
        let given = Given {
            q,
            result,
            gradient,
            keys: &keys[tree * plan.key_heads + plan.key_head(head)],
            tree,
            head,
        };
        of_head(plan, given)
    });
    drop(keys);
    let (mut by_q, mut by_k, mut by_v) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        by_q.push(part.by_q);
        by_k.push(part.by_k);
        by_v.push(part.by_v);
    }
    [plan.beside(&by_q), added(plan, &by_k), added(plan, &by_v)]
}

/// The gradients by keys or values, `[keys, key_heads * dim]`: for each key head the sum over the
/// query heads that share it, in their order.
fn added(plan: &Plan, parts: &[Vec<f32>]) -> Vec<f32> {
    let (dim, group) = (plan.dim, plan.heads / plan.key_heads);
    let mut out = vec![0.0; plan.sight.key_places.len() * plan.key_width()];
    out.par_chunks_mut(plan.key_width())
        .with_min_len(16)
        .zip(&plan.sight.key_places)
        .for_each(|(line, place)| {
            let Some((tree, at)) = place.map(sight::wide) else {
                return;
            };
            for (key_head, to) in line.chunks_mut(dim).enumerate() {
                let first = tree * plan.heads + key_head * group;
                for part in &parts[first..first + group] {
                    for (to, from) in to.iter_mut().zip(&part[at * dim..][..dim]) {
                        *to += from;
                    }
                }
            }
        });
    out
}

fn of_head(plan: &Plan, given: Given) -> Parts {
    let (dim, tree) = (plan.dim, &plan.sight.trees[given.tree]);
    let n: usize = tree.texts.iter().map(|text| text.queries.len()).sum();
    let mut parts = Parts {
        by_q: vec![0.0; n * dim],
        by_k: vec![0.0; tree.keys.len() * dim],
        by_v: vec![0.0; tree.keys.len() * dim],
    };
    let (mut scratch, mut slopes) = (Scratch::default(), Vec::new());
    let mut at = 0;
    for text in &tree.texts {
        for block in Plan::blocks(text) {
            let by_q = at..at + block.queries.len() * dim;
            at = by_q.end;
            let place = (text, &block);
            let own = (given.q, given.head);
            plan.powers(own, given.keys, place, given.tree, &mut scratch);
            slopes_of(
                plan,
                given,
                place,
                &mut scratch,
                &mut slopes,
                &mut parts.by_v,
            );
            by_keys(plan, given, place, &scratch, &slopes, &mut parts.by_k);
            by_queries(plan, given, place, &slopes, &mut parts.by_q[by_q]);
        }
    }
    // The gradient of rotating forwards is rotating backwards.
    let mut turned = vec![0.0; dim];
    for (key, line) in tree.keys.clone().zip(parts.by_k.chunks_mut(dim)) {
        plan.rotate(line, &mut turned, plan.sight.key_positions[key], -1.0);
        line.copy_from_slice(&turned);
    }
    parts
}

/// The gradient by a block's scores, and what it adds to that by the values.
fn slopes_of(
    plan: &Plan,
    given: Given,
    (text, block): (&Text, &Block),
    scratch: &mut Scratch,
    slopes: &mut Vec<f32>,
    by_v: &mut [f32],
) {
    let (dim, width, columns) = (plan.dim, plan.width(), block.columns);
    let rows = block.queries.len();
    let at = |query: usize| query * width + given.head * dim;
    let gradient = &given.gradient[at(block.queries.start)..];
    for (line, share) in scratch.scores.chunks_mut(columns).zip(&scratch.shares) {
        for x in line {
            *x *= share;
        }
    }
    slopes.resize(rows * columns, 0.0);
    for (column, span) in text.spans(columns) {
        let first = span.start - plan.sight.trees[given.tree].keys.start;
        let size = Size {
            rows,
            depth: dim,
            columns: span.len(),
        };
        let right = Right(&given.keys.values[first..], given.keys.stride);
        let out = (&mut slopes[column..], columns);
        product(Left::Rows(gradient, width), right, out, size, false);
        let size = Size {
            rows: span.len(),
            depth: rows,
            columns: dim,
        };
        let left = Left::Columns(&scratch.scores[column..], columns);
        let out = (&mut by_v[first * dim..], dim);
        product(left, Right(gradient, width), out, size, true);
    }
    let lines = slopes.chunks_mut(columns);
    let lines = lines.zip(scratch.scores.chunks(columns));
    for (query, (line, powers)) in block.queries.clone().zip(lines) {
        let (own, by_own) = (&given.result[at(query)..], &given.gradient[at(query)..]);
        let along = simd::dot(&own[..dim], &by_own[..dim]);
        simd::widest(
            #[inline(always)]
            || {
                for (slope, power) in line.iter_mut().zip(powers) {
                    *slope = power * (*slope - along);
                }
            },
        );
    }
}

fn by_keys(
    plan: &Plan,
    given: Given,
    (text, block): (&Text, &Block),
    scratch: &Scratch,
    slopes: &[f32],
    by_k: &mut [f32],
) {
    let dim = plan.dim;
    for (column, span) in text.spans(block.columns) {
        let first = span.start - plan.sight.trees[given.tree].keys.start;
        let size = Size {
            rows: span.len(),
            depth: block.queries.len(),
            columns: dim,
        };
        let left = Left::Columns(&slopes[column..], block.columns);
        let out = (&mut by_k[first * dim..], dim);
        product(left, Right(&scratch.q, dim), out, size, true);
    }
}

fn by_queries(
    plan: &Plan,
    given: Given,
    (text, block): (&Text, &Block),
    slopes: &[f32],
    by_q: &mut [f32],
) {
    let dim = plan.dim;
    for (column, span) in text.spans(block.columns) {
        let first = span.start - plan.sight.trees[given.tree].keys.start;
        let size = Size {
            rows: block.queries.len(),
            depth: span.len(),
            columns: dim,
        };
        let left = Left::Rows(&slopes[column..], block.columns);
        let right = Right(&given.keys.rows[first * dim..], dim);
        product(left, right, (&mut *by_q, dim), size, true);
    }
    let mut turned = vec![0.0; dim];
    for (query, line) in block.queries.clone().zip(by_q.chunks_mut(dim)) {
        plan.rotate(line, &mut turned, plan.sight.query_positions[query], -1.0);
        for (to, from) in line.iter_mut().zip(&turned) {
            *to = from * plan.scale();
        }
    }
}
