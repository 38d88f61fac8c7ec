//! What changed between two texts, line by line.

/// One line of a comparison of two texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// In both.
    Same(&'a str),
    /// Only in the older one.
    Removed(&'a str),
    /// Only in the newer one.
    Added(&'a str),
    /// So many lines that are in both and far from any change.
    Skipped(usize),
}

/// Lines shown before and after a change.
const CONTEXT: usize = 2;

/// Most pairs of lines that are compared; of texts that differ in more, all old lines count as removed
/// and all new ones as added.
const MOST_PAIRS: usize = 4_000_000;

/// The lines of both texts in one order, with the fewest removed and added (a longest common
/// subsequence), shortened where nothing changed. Empty when the texts are the same.
pub fn diff<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if old == new {
        return Vec::new();
    }
    let n_before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[n_before..], &new[n_before..]);
    let pairs = old_rest.iter().rev().zip(new_rest.iter().rev());
    let n_after = pairs.take_while(|(a, b)| a == b).count();
    let old_middle = &old_rest[..old_rest.len() - n_after];
    let new_middle = &new_rest[..new_rest.len() - n_after];
    let mut lines: Vec<Line<'a>> = old[..n_before]
        .iter()
        .map(|line| Line::Same(line))
        .collect();
    lines.extend(align(old_middle, new_middle));
    lines.extend(
        old[old.len() - n_after..]
            .iter()
            .map(|line| Line::Same(line)),
    );
    shorten(&lines)
}

/// Walks the table of longest common subsequences of all ends of both.
fn align<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    if old.len().saturating_mul(new.len()) > MOST_PAIRS {
        let removed = old.iter().map(|line| Line::Removed(line));
        return removed
            .chain(new.iter().map(|line| Line::Added(line)))
            .collect();
    }
    let width = new.len() + 1;
    let mut common = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = match old[i] == new[j] {
                true => common[(i + 1) * width + j + 1] + 1,
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len()
            && (j == new.len() || common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            lines.push(Line::Removed(old[i]));
            i += 1;
        } else {
            lines.push(Line::Added(new[j]));
            j += 1;
        }
    }
    lines
}

/// Leaves out what is more than [`CONTEXT`] lines away from any change.
fn shorten<'a>(lines: &[Line<'a>]) -> Vec<Line<'a>> {
    let is_near = |index: usize| {
        let from = index.saturating_sub(CONTEXT);
        let to = (index + CONTEXT + 1).min(lines.len());
        lines[from..to]
            .iter()
            .any(|line| !matches!(line, Line::Same(_)))
    };
    let mut short = Vec::new();
    let mut n_far = 0;
    for (index, line) in lines.iter().enumerate() {
        if !is_near(index) {
            n_far += 1;
            continue;
        }
        if n_far > 0 {
            short.push(Line::Skipped(std::mem::take(&mut n_far)));
        }
        short.push(line.clone());
    }
    if n_far > 0 {
        short.push(Line::Skipped(n_far));
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_changed_line_stands_between_its_neighbours() {
        let old = "a\nb\nc\nd\ne\nf\ng";
        let new = "a\nb\nc\nD\ne\nf\ng";
        let expected = [
            Line::Skipped(1),
            Line::Same("b"),
            Line::Same("c"),
            Line::Removed("d"),
            Line::Added("D"),
            Line::Same("e"),
            Line::Same("f"),
            Line::Skipped(1),
        ];
        assert_eq!(diff(old, new), expected);
        assert_eq!(diff(old, old), []);
    }

    #[test]
    fn texts_that_share_nothing_and_are_long_are_told_whole() {
        let old: String = (0..3000).map(|n| format!("old {n}\n")).collect();
        let new: String = (0..3000).map(|n| format!("new {n}\n")).collect();
        let lines = diff(&old, &new);
        assert_eq!(lines.len(), 6000);
        assert!(matches!(lines[0], Line::Removed("old 0")));
        assert!(matches!(lines[5999], Line::Added("new 2999")));
    }

    proptest! {
        #[test]
        fn both_texts_can_be_read_off(old in "([abc]\n){0,12}", new in "([abc]\n){0,12}") {
            let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
            let lines = align(&old, &new);
            let of = |wanted: fn(&Line<'_>) -> bool| -> Vec<&str> {
                let kept = lines.iter().filter(|line| wanted(line));
                kept.filter_map(|line| match line {
                    Line::Same(text) | Line::Removed(text) | Line::Added(text) => Some(*text),
                    Line::Skipped(_) => None,
                }).collect()
            };
            prop_assert_eq!(of(|line| !matches!(line, Line::Added(_))), old);
            prop_assert_eq!(of(|line| !matches!(line, Line::Removed(_))), new);
        }
    }
}
