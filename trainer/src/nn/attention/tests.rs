//! Attention against the plain formula and finite differences, in rows of every kind.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use candle_core::{D, Device, Tensor};

use super::*;
use crate::model::attention::{Rotary, behind_mask, rotate};
use crate::model::transformer_config::RopeScaling;
use crate::nn::test_support::{assert_same, distance, random};

const DIM: usize = 6;
const HEADS: usize = 4;
const KEY_HEADS: usize = 2;

fn text(queries: Range<usize>, keys: &[Range<usize>]) -> Text {
    Text {
        queries,
        keys: keys.to_vec(),
    }
}

/// A text of more than a block; padding; and a prompt with three completions, of which the first lies
/// right behind it and the last is of more than a block and gone on from, and another text between.
fn texts() -> (Vec<Vec<Text>>, usize) {
    let alone = text(0..70, std::slice::from_ref(&(0..70)));
    let prompt = text(72..77, std::slice::from_ref(&(72..77)));
    let first = text(77..80, std::slice::from_ref(&(72..80)));
    let between = text(80..82, std::slice::from_ref(&(80..82)));
    let second = text(82..83, &[72..77, 82..83]);
    let third = text(83..150, &[72..77, 83..150]);
    let on = text(150..153, &[72..77, 83..150, 150..153]);
    let tree = vec![prompt, first, between, second, third, on];
    (vec![vec![alone], tree], 154)
}

/// The same by candle's operations, text by text.
fn plain(x: &[Tensor], groups: &[Vec<Text>], rotary: Option<&Rotary>) -> Tensor {
    let (n, width) = x[0].dims2().unwrap();
    let mut lines = vec![Tensor::zeros((1, width), x[0].dtype(), &Device::Cpu).unwrap(); n];
    for text in groups.iter().flatten() {
        let (time, keys) = (text.queries.len(), text.n_keys());
        let before = keys - time;
        let heads = |x: Tensor, positions: Range<usize>, rotates: bool| {
            let (n, width) = x.dims2().unwrap();
            let x = x.reshape((1, n, width / DIM, DIM)).unwrap();
            let x = x.transpose(1, 2).unwrap().contiguous().unwrap();
            match rotary.filter(|_| rotates) {
                Some(rotary) => {
                    rotate(&x, &rotary.range(positions.start, positions.len()).unwrap()).unwrap()
                }
                None => x,
            }
        };
        let seen = |x: &Tensor| {
            let spans = text.keys.iter();
            let spans = spans.map(|span| x.narrow(0, span.start, span.len()).unwrap());
            Tensor::cat(&spans.collect::<Vec<_>>(), 0).unwrap()
        };
        let q = x[0].narrow(0, text.queries.start, time).unwrap();
        let q = heads(q, before..keys, true);
        let repeat = |x: Tensor| {
            let parts: Vec<Tensor> = (0..HEADS)
                .map(|head| x.narrow(1, head * KEY_HEADS / HEADS, 1).unwrap())
                .collect();
            Tensor::cat(&parts, 1).unwrap()
        };
        let k = repeat(heads(seen(&x[1]), 0..keys, true));
        let v = repeat(heads(seen(&x[2]), 0..keys, false));
        let scores = q.matmul(&k.transpose(2, 3).unwrap().contiguous().unwrap());
        let scores = (scores.unwrap() * (DIM as f64).powf(-0.5)).unwrap();
        let mask = behind_mask(&[before], time, keys, &Device::Cpu).unwrap();
        let mask = mask.reshape((1, 1, time, keys)).unwrap();
        let weights =
            candle_nn::ops::softmax(&scores.broadcast_add(&mask).unwrap(), D::Minus1).unwrap();
        let out = weights.matmul(&v.contiguous().unwrap()).unwrap();
        let out = out.transpose(1, 2).unwrap().contiguous().unwrap();
        let out = out.reshape((time, HEADS * DIM)).unwrap();
        for (at, query) in text.queries.clone().enumerate() {
            lines[query] = out.narrow(0, at, 1).unwrap();
        }
    }
    Tensor::cat(&lines, 0).unwrap()
}

fn inputs(queries: usize, keys: usize) -> [Tensor; 3] {
    [
        random("q", &[queries, HEADS * DIM]),
        random("k", &[keys, KEY_HEADS * DIM]),
        random("v", &[keys, KEY_HEADS * DIM]),
    ]
}

fn rotary() -> Rotary {
    Rotary::new(DIM, 100.0, RopeScaling::None, 200, &Device::Cpu).unwrap()
}

fn assert_plain(groups: &[Vec<Text>], queries: usize, keys: usize) {
    let sight = Arc::new(Sight::new(groups.to_vec(), queries, keys).unwrap());
    let rotary = rotary();
    for rotary in [None, Some(&rotary)] {
        let table = rotary.and_then(|rotary| rotary.table.as_ref());
        assert_same(
            &inputs(queries, keys),
            &|x| attend((&x[0], &x[1], &x[2]), DIM, &sight, table).unwrap(),
            &|x| plain(x, groups, rotary),
        );
    }
}

#[test]
fn texts_of_one_row_see_what_they_go_on_from_and_nothing_else() {
    let (groups, n) = texts();
    assert_plain(&groups, n, n);
}

#[test]
fn queries_may_be_the_last_of_their_texts_alone() {
    let (groups, n) = texts();
    let mut at = 0;
    let last = |text: &Text| {
        at += 1;
        Text {
            queries: at - 1..at,
            keys: text.keys.clone(),
        }
    };
    let mut last = last;
    let groups: Vec<Vec<Text>> = groups
        .iter()
        .map(|texts| texts.iter().map(&mut last).collect())
        .collect();
    assert_plain(&groups, 7, n);
}

#[test]
fn rows_of_one_text_each_are_texts_too() {
    let sight = Sight::rows(3, 5).unwrap();
    let rows: Vec<_> = sight.trees.iter().map(|tree| tree.texts.clone()).collect();
    assert_plain(&rows, 15, 15);
}

#[test]
fn a_row_of_no_text_attends_to_nothing_and_is_seen_by_none() {
    let (groups, n) = texts();
    let sight = Arc::new(Sight::new(groups, n, n).unwrap());
    let [q, k, v] = inputs(n, n);
    let found = attend((&q, &k, &v), DIM, &sight, None).unwrap();
    let padding = found.narrow(0, 70, 2).unwrap().abs().unwrap();
    assert_eq!(padding.sum_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
    let other = |x: &Tensor| {
        let parts = [
            x.narrow(0, 0, 70),
            random("other", &[2, KEY_HEADS * DIM]).narrow(0, 0, 2),
            x.narrow(0, 72, n - 72),
        ];
        Tensor::cat(&parts.map(candle_core::Result::unwrap), 0).unwrap()
    };
    let again = attend((&q, &other(&k), &other(&v)), DIM, &sight, None).unwrap();
    assert_eq!(distance(&found, &again), 0.0);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let alone = |queries, keys: Range<usize>| text(queries, std::slice::from_ref(&keys));
    let error = |groups: Vec<Vec<Text>>| Sight::new(groups, 4, 4).unwrap_err().to_string();
    let said = error(vec![vec![alone(0..3, 0..2)]]);
    assert!(said.contains("more queries than keys"), "{said}");
    let said = error(vec![vec![alone(0..2, 0..2)], vec![alone(2..3, 1..3)]]);
    assert!(said.contains("from two groups"), "{said}");
    let said = error(vec![vec![alone(0..2, 0..2), alone(1..3, 2..4)]]);
    assert!(said.contains("of two texts"), "{said}");
    let said = error(vec![vec![alone(0..5, 0..5)]]);
    assert!(said.contains("beyond 4 queries"), "{said}");

    let sight = Arc::new(Sight::rows(1, 4).unwrap());
    let [q, k, v] = inputs(5, 5);
    let error = attend((&q, &k, &v), DIM, &sight, None).unwrap_err();
    assert!(error.to_string().contains("do not fit"), "{error}");
    let short = Rotary::new(DIM, 100.0, RopeScaling::None, 3, &Device::Cpu).unwrap();
    let [q, k, v] = inputs(4, 4);
    let error = attend((&q, &k, &v), DIM, &sight, short.table.as_ref()).unwrap_err();
    assert!(error.to_string().contains("the 3 positions"), "{error}");
}
