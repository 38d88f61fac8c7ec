//! Ids that cannot be confused: each table's key is a type of its own over a UUID, version 7, so
//! that keys made later sort later.

/// Defines an id over a UUIDv7.
macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize, sqlx::Type,
        )]
        #[sqlx(transparent)]
        #[serde(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl $name {
            /// A new id; later ids sort after earlier ones.
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(/// Who signs in.
    AccountId);
id!(/// A program's bearer token.
    ApiTokenId);
id!(/// A browser's session.
    SessionId);
id!(/// A body of prompts with its rules.
    ProjectId);
id!(/// What a model is asked.
    PromptId);
id!(/// One model output for a prompt.
    CompletionId);
id!(/// One piece of labeling work.
    TaskId);
id!(/// One labeler's lease of one task.
    AssignmentId);
id!(/// One labeler's weak order over a task's candidates.
    RankingId);
id!(/// A version of what a labeler wrote for a task.
    WritingId);
id!(/// A version of what a labeler said of a prompt.
    ReviewId);
id!(/// Tasks that an admin opened together.
    OpeningId);
id!(/// What a labeler asks about a task.
    QuestionId);
id!(/// What an admin answers.
    AnswerId);
id!(/// A completion written by a labeler.
    DemonstrationId);
id!(/// A plain text of the pretraining mix.
    TextId);
id!(/// One person's test to become a labeler.
    ScreeningId);
id!(/// What an admin thinks of a candidate's text.
    GradeId);
id!(/// A frozen selection.
    SnapshotId);
id!(/// A snapshot written into a file.
    ExportId);
id!(/// One execution of training, generation or evaluation.
    RunId);
id!(/// Something that somebody did.
    AuditEventId);
id!(/// A model folder.
    CheckpointId);
