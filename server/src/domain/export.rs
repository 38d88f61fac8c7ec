//! In which formats a snapshot is written out, and with which choices.

use crate::domain::snapshot::SnapshotKind;

/// Which bytes the formats make of a snapshot. Raise it whenever a snapshot that is there already comes out with
/// other bytes than before in any format or container: a field, its place or a column changes, the card says
/// something else, or a library packs otherwise. Downloads are named by it, and exports of another revision are
/// other exports. `exchange/export_file/golden.rs` fails where bytes have changed; its digests are of this revision.
///
/// It is not for new fields of the snapshots' own lines: those come with a new `line_format`, which a snapshot
/// keeps from the day it is sealed.
pub const REVISION: i16 = 1;

/// How a snapshot's rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Our own, named after the snapshot's kind: what the trainer reads and the snapshot's hash covers.
    Plackett,
    /// TRL, conversational with an explicit prompt: preference pairs of rankings, or prompts alone.
    Trl,
    /// TRL, conversational with the prompt inside both sides, as its reward trainer recommends.
    TrlImplicit,
    /// TRL unpaired: a completion and whether it is good.
    TrlUnpaired,
    /// Anthropic's helpful and harmless dialogues: two whole transcripts.
    Hh,
    /// OpenAI's comparisons of summaries: two texts and a choice.
    Summarize,
    /// Nectar: all K answers of a prompt with their ranks on one line.
    Nectar,
    /// Alpaca: instruction, input, output.
    Alpaca,
    /// ShareGPT: conversations of `human` and `gpt`.
    ShareGpt,
}

impl ExportFormat {
    /// The formats that a kind of snapshot can be written in; the first is the one that is hashed.
    pub fn of(kind: SnapshotKind) -> &'static [Self] {
        match kind {
            SnapshotKind::Rankings => &[
                Self::Plackett,
                Self::Trl,
                Self::TrlImplicit,
                Self::TrlUnpaired,
                Self::Nectar,
                Self::Hh,
                Self::Summarize,
            ],
            SnapshotKind::Demonstrations => &[Self::Plackett, Self::Alpaca, Self::ShareGpt],
            SnapshotKind::Prompts => &[Self::Plackett, Self::Trl],
            SnapshotKind::Texts => &[Self::Plackett],
        }
    }

    /// The word for URLs and `--format`.
    pub fn word(self, kind: SnapshotKind) -> &'static str {
        match self {
            Self::Plackett => kind.as_str(),
            Self::Trl => "trl",
            Self::TrlImplicit => "trl-implicit",
            Self::TrlUnpaired => "trl-unpaired",
            Self::Hh => "hh",
            Self::Summarize => "summarize",
            Self::Nectar => "nectar",
            Self::Alpaca => "alpaca",
            Self::ShareGpt => "sharegpt",
        }
    }

    /// The format of a word for a snapshot of `kind`.
    ///
    /// # Errors
    /// A sentence that lists the words this kind takes.
    pub fn parse(word: &str, kind: SnapshotKind) -> Result<Self, String> {
        let formats = Self::of(kind);
        let found = formats.iter().find(|format| format.word(kind) == word);
        found.copied().ok_or_else(|| {
            let words: Vec<_> = formats.iter().map(|format| format.word(kind)).collect();
            format!(
                "a snapshot of {kind} has no format {word:?}: use {}",
                words.join(" or ")
            )
        })
    }

    /// Whether it writes pairs, which may carry a margin.
    pub fn has_margin(self) -> bool {
        matches!(self, Self::Trl | Self::TrlImplicit)
    }
}

/// Defines an enum that is a word in URLs, forms and the database.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one, in the order pages list them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for URLs, forms and the database.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().copied().find(|one| one.as_str() == text);
                let words: Vec<&str> = Self::ALL.iter().map(|one| one.as_str()).collect();
                found.ok_or_else(|| format!("{text:?} is unknown: use {}", words.join(" or ")))
            }
        }
    };
}

words! {
    /// What the rows are put into.
    Container {
        /// One JSON object a line.
        #[default]
        Jsonl = "jsonl",
        /// One Parquet file, compressed with zstd.
        Parquet = "parquet",
        /// A tar archive with the layout of a dataset on the Hugging Face hub: Parquet files by split, a
        /// dataset card and the checksums of both.
        Dataset = "dataset",
    }
}

words! {
    /// The optional `margin` of a pair, which TRL's reward trainer takes off the difference of scores.
    Margin {
        /// None is written.
        #[default]
        Nothing = "none",
        /// How many ranks lie between the two.
        Ranks = "ranks",
        /// How many points of the overall rating lie between the two; 0 where either has none, or the
        /// rating contradicts the rank.
        Ratings = "ratings",
    }
}

words! {
    /// How several labelers' rankings of the same completions are written.
    Aggregation {
        /// Each for itself.
        #[default]
        Labelers = "labelers",
        /// As one ranking by their mean rank (Borda's method); equal means are ties.
        MeanRank = "mean-rank",
    }
}

/// Everything that decides the bytes of an export of a snapshot, with the [`REVISION`] of the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportChoice {
    /// How rows are written.
    pub format: ExportFormat,
    /// What they are put into.
    pub container: Container,
    /// What pairs carry.
    pub margin: Margin,
    /// How several labelers are put together.
    pub aggregation: Aggregation,
}

impl ExportChoice {
    /// A format as JSON lines, without further choices.
    pub fn lines(format: ExportFormat) -> Self {
        Self {
            format,
            container: Container::Jsonl,
            margin: Margin::Nothing,
            aggregation: Aggregation::Labelers,
        }
    }

    /// Whether it gives the bytes that the snapshot's hash covers.
    pub fn is_canonical(&self) -> bool {
        *self == Self::lines(ExportFormat::Plackett)
    }

    /// The end of a file's name.
    pub fn extension(&self) -> &'static str {
        match self.container {
            Container::Jsonl => "jsonl",
            Container::Parquet => "parquet",
            Container::Dataset => "tar",
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn every_kind_takes_its_own_format_first_and_each_word_is_read_as_written() {
        for kind in SnapshotKind::ALL {
            assert_eq!(ExportFormat::of(kind)[0].word(kind), kind.as_str());
            for format in ExportFormat::of(kind) {
                assert_eq!(
                    ExportFormat::parse(format.word(kind), kind).unwrap(),
                    *format
                );
            }
        }
        let message = ExportFormat::parse("hh", SnapshotKind::Prompts).unwrap_err();
        assert!(message.ends_with("use prompts or trl"), "{message}");
        assert_eq!("mean-rank".parse(), Ok(Aggregation::MeanRank));
        assert!("median".parse::<Aggregation>().is_err());
    }
}
