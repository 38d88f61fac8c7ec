//! Who sees whom: texts of queries, and where the keys lie that each may look at.

use std::ops::Range;

/// Queries of neighbouring positions, and the keys that the last of them sees, itself among them, in
/// the order of their positions. Each query before it sees one key less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Its queries, among all.
    pub queries: Range<usize>,
    /// Where its keys lie, among all: its own, and before them those of the texts it goes on from.
    pub keys: Vec<Range<usize>>,
}

impl Text {
    /// How many keys its last query sees.
    pub fn n_keys(&self) -> usize {
        self.keys.iter().map(ExactSizeIterator::len).sum()
    }

    /// The places of its first `n` keys, each with how many came before it.
    pub(super) fn spans(&self, n: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let mut before = 0;
        self.keys.iter().map_while(move |span| {
            let start = before;
            before += span.len();
            let length = span.len().min(n.saturating_sub(start));
            (length > 0).then_some((start, span.start..span.start + length))
        })
    }
}

/// Texts of which some see the same keys. No two trees have a key in common, so that their gradients
/// are worked out beside each other.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) texts: Vec<Text>,
    /// All that its texts see lies here.
    pub(super) keys: Range<usize>,
}

/// What all queries of a pass see.
#[derive(Debug)]
pub struct Sight {
    pub(super) trees: Vec<Tree>,
    pub(super) query_positions: Vec<u32>,
    pub(super) key_positions: Vec<u32>,
    /// The tree of each query, and its place among the queries of that tree.
    pub(super) query_places: Vec<Option<(u32, u32)>>,
    /// The same of each key.
    pub(super) key_places: Vec<Option<(u32, u32)>>,
}

/// A place as it is counted with.
pub(super) fn wide((tree, at): (u32, u32)) -> (usize, usize) {
    (tree as usize, at as usize)
}

impl Sight {
    /// Of texts in groups: no key is seen from two groups. A query's and a key's position is its
    /// place among the keys that it sees; rows of no text have position 0 and attend to nothing.
    ///
    /// # Errors
    /// When a text has more queries than keys, two groups have a key in common, or a query is of two
    /// texts.
    pub fn new(
        groups: Vec<Vec<Text>>,
        n_queries: usize,
        n_keys: usize,
    ) -> candle_core::Result<Self> {
        let mut sight = Self {
            trees: Vec::with_capacity(groups.len()),
            query_positions: vec![0; n_queries],
            key_positions: vec![0; n_keys],
            query_places: vec![None; n_queries],
            key_places: vec![None; n_keys],
        };
        // A group that nobody is of has no keys.
        for texts in groups.into_iter().filter(|texts| !texts.is_empty()) {
            let spans = || texts.iter().flat_map(|text| &text.keys);
            let first = spans().map(|span| span.start).min().unwrap_or(0);
            let end = spans().map(|span| span.end).max().unwrap_or(first);
            if end > n_keys || texts.iter().any(|text| text.queries.end > n_queries) {
                candle_core::bail!("a text goes beyond {n_queries} queries and {n_keys} keys");
            }
            sight.place(&texts, first..end)?;
            sight.trees.push(Tree {
                texts,
                keys: first..end,
            });
        }
        Ok(sight)
    }

    fn place(&mut self, texts: &[Text], keys: Range<usize>) -> candle_core::Result<()> {
        let tree = self.trees.len() as u32;
        for key in keys.clone() {
            let place = &mut self.key_places[key];
            if place.is_some() {
                candle_core::bail!("a key is seen from two groups of texts");
            }
            *place = Some((tree, (key - keys.start) as u32));
        }
        let mut at = 0;
        for text in texts {
            let n_keys = text.n_keys();
            if n_keys == 0 {
                candle_core::bail!("a text sees nothing");
            }
            let Some(first) = n_keys.checked_sub(text.queries.len()) else {
                candle_core::bail!("a text has more queries than keys");
            };
            for (query, position) in text.queries.clone().zip(first..) {
                if self.query_places[query].is_some() {
                    candle_core::bail!("a query is of two texts");
                }
                self.query_places[query] = Some((tree, at));
                self.query_positions[query] = position as u32;
                at += 1;
            }
            for (key, position) in text.keys.iter().cloned().flatten().zip(0..) {
                self.key_positions[key] = position;
            }
        }
        Ok(())
    }

    /// Rows of one text each, `[rows * time]`.
    ///
    /// # Errors
    /// Never, of rows as these are.
    pub fn rows(rows: usize, time: usize) -> candle_core::Result<Self> {
        let text = |row: usize| Text {
            queries: row * time..(row + 1) * time,
            keys: std::iter::once(row * time..(row + 1) * time).collect(),
        };
        let groups = (0..rows).map(|row| vec![text(row)]).collect();
        Self::new(groups, rows * time, rows * time)
    }

    /// The last real tokens of rows of one text each, padded to `time`.
    ///
    /// # Errors
    /// When a row is longer.
    pub fn ends(lengths: &[usize], time: usize) -> candle_core::Result<Self> {
        let text = |(row, length): (usize, &usize)| Text {
            queries: row..row + 1,
            keys: std::iter::once(row * time..row * time + length).collect(),
        };
        let rows = lengths.iter().enumerate();
        let groups = rows.map(|row| vec![text(row)]).collect();
        Self::new(groups, lengths.len(), lengths.len() * time)
    }

    /// Whether it is of so many queries and keys.
    pub(super) fn fits(&self, queries: usize, keys: usize) -> bool {
        self.query_places.len() == queries && self.key_places.len() == keys
    }

    pub(super) fn highest_position(&self) -> usize {
        let all = self.query_positions.iter().chain(&self.key_positions);
        all.max().map_or(0, |position| *position as usize)
    }
}
