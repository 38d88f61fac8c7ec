//! What an import writes across several tables: prompts with candidates to rank, and why a record
//! is refused. All of it happens inside the import's transaction.

use std::fmt;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::ids::{ProjectId, PromptId};
use crate::store::completions::{self, NewCompletion};
use crate::store::projects::Project;
use crate::store::prompts::NewPrompt;

/// A prompt with completions to be ranked.
#[derive(Debug)]
pub struct NewCandidates {
    /// The prompt.
    pub prompt: NewPrompt,
    /// 4 to 9 completions.
    pub completions: Vec<NewCompletion>,
}

/// Why the database refused a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The id stands on an earlier line.
    InFile,
    /// The id was in the project before.
    InProject,
    /// The id belongs to a prompt with another text.
    OtherPrompt,
    /// An earlier line of the file gives the prompt to another customer.
    OtherCustomer,
    /// The project has the prompt under another customer, or under none.
    KnownCustomer,
    /// The prompt has a task already.
    HasTask,
    /// This labeler ranked these completions already.
    RankedAlready,
    /// More labelers than a task takes.
    TooManyLabelers,
    /// The use case has a task already, of an earlier line or of before.
    KnownUseCase,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::InFile => "stands on an earlier line of this file",
            Self::InProject => "is in this project already",
            Self::OtherPrompt => "belongs to a prompt with another text",
            Self::OtherCustomer => "is another than an earlier line of the prompt has",
            Self::KnownCustomer => {
                "is not what this project has for the prompt, which snapshots may hold already"
            }
            Self::HasTask => "belongs to a prompt that has a task already",
            Self::RankedAlready => "this ranking is here already",
            Self::TooManyLabelers => "a task takes at most 100 labelers",
            Self::KnownUseCase => "has a task already",
        })
    }
}

impl Refusal {
    /// The field that it is about.
    pub fn field(self) -> &'static str {
        match self {
            Self::OtherCustomer | Self::KnownCustomer => "customer",
            Self::KnownUseCase => "use_case",
            _ => "id",
        }
    }

    /// Says for each refused index whether the project had its id before (`earlier`).
    pub(crate) fn explain(
        names: &[String],
        refused: Vec<usize>,
        earlier: &[String],
    ) -> Vec<(usize, Self)> {
        let why = |index: &usize| match earlier.contains(&names[*index]) {
            true => Self::InProject,
            false => Self::InFile,
        };
        refused
            .into_iter()
            .map(|index| (index, why(&index)))
            .collect()
    }
}

/// The indexes of `ids` that were not inserted.
pub(crate) fn refused_indexes(ids: &[Uuid], inserted: &[Uuid]) -> Vec<usize> {
    let inserted: std::collections::HashSet<&Uuid> = inserted.iter().collect();
    let refused = ids
        .iter()
        .enumerate()
        .filter(|(_, id)| !inserted.contains(id));
    refused.map(|(index, _)| index).collect()
}

/// Stores a prompt with its completions and opens one task for them.
pub async fn insert_candidates(
    db: &mut PgConnection,
    project: &Project,
    row: &NewCandidates,
) -> sqlx::Result<Option<Refusal>> {
    let prompt_id = match find_or_insert_prompt(db, project.id, &row.prompt).await? {
        Ok(prompt) if prompt.has_task => return Ok(Some(Refusal::HasTask)),
        Ok(prompt) => prompt.id,
        Err(refusal) => return Ok(Some(refusal)),
    };
    completions::insert_task(db, project.id, prompt_id, &row.completions, None, None).await?;
    Ok(None)
}

/// A prompt of the project with the wanted id and text.
pub(crate) struct FoundPrompt {
    pub(crate) id: PromptId,
    pub(crate) has_task: bool,
}

/// Stores a prompt, or finds it where the project has it with the same text.
pub(crate) async fn find_or_insert_prompt(
    db: &mut PgConnection,
    project_id: ProjectId,
    prompt: &NewPrompt,
) -> sqlx::Result<Result<FoundPrompt, Refusal>> {
    let id = PromptId::new();
    let made = sqlx::query!(
        r#"
        INSERT INTO prompts (id, project_id, external_id, body, category, language, customer)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT ON CONSTRAINT prompts_external_id_key DO NOTHING
        "#,
        id.0,
        project_id.0,
        prompt.external_id,
        prompt.body,
        prompt.category,
        prompt.language,
        prompt.customer
    )
    .execute(&mut *db)
    .await?;
    if made.rows_affected() == 1 {
        let has_task = false;
        return Ok(Ok(FoundPrompt { id, has_task }));
    }
    let found = sqlx::query!(
        r#"
        SELECT id, body = $3 AS "is_same!", customer, created_at = now() AS "is_of_this_file!",
               EXISTS (SELECT 1 FROM tasks t WHERE t.prompt_id = prompts.id AND t.kind = 'rank') AS "has_task!"
        FROM prompts
        WHERE project_id = $1 AND external_id = $2
        "#,
        project_id.0,
        prompt.external_id,
        prompt.body
    )
    .fetch_one(&mut *db)
    .await?;
    if !found.is_same {
        return Ok(Err(Refusal::OtherPrompt));
    }
    let id = PromptId(found.id);
    if prompt.customer.is_some() && prompt.customer != found.customer {
        match (found.is_of_this_file, found.customer) {
            (true, None) => set_customer(db, id, prompt.customer.as_deref()).await?,
            (true, Some(_)) => return Ok(Err(Refusal::OtherCustomer)),
            (false, _) => return Ok(Err(Refusal::KnownCustomer)),
        }
    }
    Ok(Ok(FoundPrompt {
        id,
        has_task: found.has_task,
    }))
}

/// Says whose a prompt is that an earlier line of the same file brought without that. One that was
/// there before stays as it is: a snapshot that holds it must stay the same bytes.
async fn set_customer(
    db: &mut PgConnection,
    id: PromptId,
    customer: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE prompts SET customer = $2 WHERE id = $1",
        id.0,
        customer
    )
    .execute(db)
    .await?;
    Ok(())
}
