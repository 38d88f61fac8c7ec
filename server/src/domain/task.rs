//! What kinds of labeling work there are, and what a task is for.

/// Defines an enum that is a word in the database, in JSON and in forms.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident ($what:literal) { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every one, in the order pages list them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word stored in the database and used in forms and JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().copied().find(|one| one.as_str() == text);
                found.ok_or_else(|| format!(concat!("unknown ", $what, " {:?}"), text))
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What a labeler does in a task.
    TaskKind ("kind of task") {
        /// Rates, flags and ranks K candidates, 4 to 9.
        Rank = "rank",
        /// Says which of two candidates is better, and how much.
        Compare = "compare",
        /// Writes a demonstration.
        Demonstrate = "demonstrate",
        /// Says what a prompt is: its category, language, flags and personal data.
        Review = "review",
    }
}

words! {
    /// What a task is there for. Labelers are never told.
    Purpose ("purpose of a task") {
        /// For the dataset.
        Label = "label",
        /// Its answer is known: mixed in, to learn how well labelers do.
        Gold = "gold",
        /// A task that the same labeler did before, to learn how steady they are.
        Repeat = "repeat",
        /// Part of the test that makes somebody a labeler.
        Screening = "screening",
    }
}

words! {
    /// How the next task is chosen.
    NextTask ("order of tasks") {
        /// The oldest first.
        Oldest = "oldest",
        /// In an order drawn once for all labelers.
        Random = "random",
        /// Where reward models disagree most first, with a random share kept for evaluation.
        Informative = "informative",
    }
}

words! {
    /// How a demonstration comes about (InstructGPT, section 3.2).
    BriefKind ("kind of demonstration") {
        /// A prompt is answered: a given one, or one that the labeler writes too.
        Plain = "plain",
        /// An instruction with several query and response pairs, recombined into as many examples.
        FewShot = "few_shot",
        /// From the text of a use case: a prompt that fits it, and its response.
        UserBased = "user_based",
    }
}

words! {
    /// Why a task stands where it stands in the queue.
    ChosenBy ("reason of a task's place") {
        /// The oldest first.
        Oldest = "oldest",
        /// In an order drawn once for all labelers.
        Random = "random",
        /// Reward models disagree over its candidates.
        Informative = "informative",
        /// Drawn at random where others are chosen by disagreement, so that evaluation is unbiased.
        Evaluation = "evaluation",
    }
}

impl TaskKind {
    /// How many candidates such a task has.
    pub fn candidates(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Rank => crate::domain::ranking::CANDIDATES,
            Self::Compare => 2..=2,
            Self::Demonstrate | Self::Review => 0..=0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_is_written_and_another_is_refused() {
        for kind in TaskKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            let json = serde_json::to_value(kind).unwrap_or_default();
            assert_eq!(json, kind.as_str());
        }
        let refused = "rnak".parse::<TaskKind>();
        assert_eq!(refused, Err("unknown kind of task \"rnak\"".to_owned()));
    }
}
