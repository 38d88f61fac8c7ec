//! What an import writes across several tables: prompts with candidates to rank, and why a record
//! is refused. All of it happens inside the import's transaction.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::ids::{ProjectId, PromptId};
use crate::message::Message;
use crate::store::completions::{self, NewCompletion, NewTask, OpenedTask};
use crate::store::copy;
use crate::store::projects::Project;
use crate::store::prompts::{self, NewPrompt};

/// Most labelers of one task: the bound of `tasks_overlap_range`.
pub(crate) const MOST_LABELERS: i16 = 100;

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

impl Refusal {
    /// The sentence that says why.
    pub fn message(self) -> Message {
        match self {
            Self::InFile => Message::new("import-in-file"),
            Self::InProject => Message::new("import-in-project"),
            Self::OtherPrompt => Message::new("import-other-prompt"),
            Self::OtherCustomer => Message::new("import-other-customer"),
            Self::KnownCustomer => Message::new("import-known-customer"),
            Self::HasTask => Message::new("import-has-task"),
            Self::RankedAlready => Message::new("import-ranked-already"),
            Self::TooManyLabelers => {
                Message::new("import-too-many-labelers").with("most", MOST_LABELERS)
            }
            Self::KnownUseCase => Message::new("import-known-use-case"),
        }
    }

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

/// Stores prompts with their completions, and opens one task for each, in order; returns the indexes
/// of those that are refused.
pub async fn insert_candidates(
    db: &mut PgConnection,
    project: &Project,
    rows: &[NewCandidates],
) -> sqlx::Result<Vec<(usize, Refusal)>> {
    let prompts: Vec<&NewPrompt> = rows.iter().map(|row| &row.prompt).collect();
    let found = find_or_insert_prompts(db, project.id, &prompts).await?;
    let overlaps = find_overlaps(&mut *db, project.id).await?;
    let mut refused = Vec::new();
    let mut have_task = HashSet::new();
    let mut tasks = Vec::with_capacity(rows.len());
    for (index, (row, found)) in rows.iter().zip(&found).enumerate() {
        match found {
            Err(refusal) => refused.push((index, *refusal)),
            Ok(prompt) if prompt.has_task || !have_task.insert(prompt.id) => {
                refused.push((index, Refusal::HasTask));
            }
            Ok(prompt) => tasks.push(NewTask {
                prompt_id: prompt.id,
                language: prompt.language.as_deref(),
                overlap: overlaps.of_category(&prompt.category),
                completions: &row.completions,
            }),
        }
    }
    open_tasks(db, project.id, &tasks).await?;
    Ok(refused)
}

/// Stores completions and opens their tasks, of prompts from [`find_or_insert_prompts`]: written by
/// this transaction or locked, as their project is, and the tasks' other keys are made with them. So
/// no key needs to be looked up. Where it fails, the transaction is over, and its settings with it.
pub(crate) async fn open_tasks(
    db: &mut PgConnection,
    project_id: ProjectId,
    tasks: &[NewTask<'_>],
) -> sqlx::Result<Vec<OpenedTask>> {
    let is_aside = copy::set_keys_aside(&mut *db).await?;
    let opened = completions::insert_tasks(&mut *db, project_id, tasks, None).await?;
    if is_aside {
        copy::mind_keys(db).await?;
    }
    Ok(opened)
}

/// How many labelers each new task of a project is given to.
struct Overlaps {
    usual: i16,
    by_category: HashMap<String, i16>,
}

impl Overlaps {
    fn of_category(&self, category: &str) -> i16 {
        let own = self.by_category.get(category);
        own.copied().unwrap_or(self.usual)
    }
}

async fn find_overlaps(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<Overlaps> {
    let row = sqlx::query!(
        r#"SELECT overlap, overlap_by_category AS "by_category: Json<HashMap<String, i16>>" FROM projects WHERE id = $1"#,
        project_id.0
    )
    .fetch_one(db)
    .await?;
    Ok(Overlaps {
        usual: row.overlap,
        by_category: row.by_category.0,
    })
}

/// A prompt of the project with the wanted id and text.
#[derive(Debug, Clone)]
pub(crate) struct FoundPrompt {
    pub(crate) id: PromptId,
    pub(crate) category: String,
    pub(crate) language: Option<String>,
    /// Whether it had a task before this batch.
    pub(crate) has_task: bool,
}

/// Stores prompts, or finds them where the project has them with the same text, in order: the first
/// of several with one id is stored, and those after it find it.
pub(crate) async fn find_or_insert_prompts(
    db: &mut PgConnection,
    project_id: ProjectId,
    rows: &[&NewPrompt],
) -> sqlx::Result<Vec<Result<FoundPrompt, Refusal>>> {
    let (ids, inserted) = prompts::insert_new(db, project_id, rows).await?;
    let mut known = find_prompts(db, project_id, rows, &refused_indexes(&ids, &inserted)).await?;
    let mut found = Vec::with_capacity(rows.len());
    // What lines of this batch said of the customers of prompts that were there.
    let mut said: HashMap<PromptId, Option<String>> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        let Some(prompt) = known.remove(&index) else {
            found.push(Ok(FoundPrompt {
                id: PromptId(ids[index]),
                category: row.category.clone(),
                language: row.language.clone(),
                has_task: false,
            }));
            continue;
        };
        if !prompt.is_same {
            found.push(Err(Refusal::OtherPrompt));
            continue;
        }
        let id = prompt.found.id;
        let customer = said.entry(id).or_insert(prompt.customer);
        if row.customer.is_some() && row.customer != *customer {
            match (prompt.is_of_this_file, &customer) {
                (true, None) => {
                    set_customer(db, id, row.customer.as_deref()).await?;
                    customer.clone_from(&row.customer);
                }
                (true, Some(_)) => {
                    found.push(Err(Refusal::OtherCustomer));
                    continue;
                }
                (false, _) => {
                    found.push(Err(Refusal::KnownCustomer));
                    continue;
                }
            }
        }
        found.push(Ok(prompt.found));
    }
    Ok(found)
}

/// A prompt that was there, beside the line that names it.
struct KnownPrompt {
    found: FoundPrompt,
    is_same: bool,
    customer: Option<String>,
    is_of_this_file: bool,
}

/// The project's prompts that the lines at some indexes name.
async fn find_prompts(
    db: &mut PgConnection,
    project_id: ProjectId,
    rows: &[&NewPrompt],
    indexes: &[usize],
) -> sqlx::Result<HashMap<usize, KnownPrompt>> {
    if indexes.is_empty() {
        return Ok(HashMap::new());
    }
    let places: Vec<i64> = indexes.iter().map(|index| *index as i64).collect();
    let names: Vec<String> = indexes
        .iter()
        .map(|index| rows[*index].external_id.clone())
        .collect();
    let bodies: Vec<Value> = indexes
        .iter()
        .map(|index| rows[*index].body.clone())
        .collect();
    let found = sqlx::query!(
        r#"
        SELECT n.place AS "place!", p.id, p.body = n.body AS "is_same!", p.customer, p.category, p.language,
               p.created_at = now() AS "is_of_this_file!",
               EXISTS (SELECT 1 FROM tasks t WHERE t.prompt_id = p.id AND t.kind = 'rank') AS "has_task!"
        FROM unnest($2::BIGINT[], $3::TEXT[], $4::JSONB[]) AS n (place, external_id, body)
        JOIN prompts p ON p.project_id = $1 AND p.external_id = n.external_id
        FOR KEY SHARE OF p
        "#,
        project_id.0,
        &places,
        &names,
        &bodies
    )
    .fetch_all(db)
    .await?;
    let known = found.into_iter().map(|row| {
        let found = FoundPrompt {
            id: PromptId(row.id),
            category: row.category,
            language: row.language,
            has_task: row.has_task,
        };
        let known = KnownPrompt {
            found,
            is_same: row.is_same,
            customer: row.customer,
            is_of_this_file: row.is_of_this_file,
        };
        (row.place as usize, known)
    });
    Ok(known.collect())
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
