//! Preference pairs as TRL reads them (its "conversational preference" format with an explicit
//! prompt): one line for each pair of a ranking in which one completion is strictly better.

use serde::Serialize;
use trainer::records::{Message, RankedPrompt};

/// A preference pair.
#[derive(Debug, Serialize)]
pub struct PreferencePair {
    /// The turns so far.
    pub prompt: Vec<Message>,
    /// The better answer.
    pub chosen: [Message; 1],
    /// The worse answer.
    pub rejected: [Message; 1],
}

/// The strict pairs of a ranking, best answers first; ties give none.
pub fn pairs(ranked: &RankedPrompt) -> Vec<PreferencePair> {
    let mut by_rank: Vec<_> = ranked.completions.iter().collect();
    by_rank.sort_by_key(|completion| completion.rank);
    let mut pairs = Vec::new();
    for (index, better) in by_rank.iter().enumerate() {
        for worse in by_rank[index + 1..]
            .iter()
            .filter(|item| item.rank > better.rank)
        {
            pairs.push(PreferencePair {
                prompt: ranked.prompt.messages(),
                chosen: [answer(&better.text)],
                rejected: [answer(&worse.text)],
            });
        }
    }
    pairs
}

fn answer(text: &str) -> Message {
    Message {
        role: "assistant".to_owned(),
        content: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn each_strict_pair_is_one_line_and_ties_give_none() {
        let line = r#"{"id":"p","prompt":"Hi","completions":[
            {"id":"1","text":"bad","rank":2},{"id":"2","text":"good","rank":1},{"id":"3","text":"poor","rank":2}]}"#;
        let ranked: RankedPrompt = serde_json::from_str(line).unwrap();
        let lines: Vec<String> = pairs(&ranked)
            .iter()
            .map(|pair| serde_json::to_string(pair).unwrap())
            .collect();
        let line = |worse: &str| {
            format!(
                r#"{{"prompt":[{{"role":"user","content":"Hi"}}],"chosen":[{{"role":"assistant","content":"good"}}],"rejected":[{{"role":"assistant","content":"{worse}"}}]}}"#
            )
        };
        assert_eq!(lines, [line("bad"), line("poor")]);
    }
}
