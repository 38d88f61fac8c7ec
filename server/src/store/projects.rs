//! Projects, their guidelines and their forms.

use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::form::Form;
use crate::domain::ids::{AccountId, ProjectId};
use crate::error::AppResult;

/// A row of `projects`.
#[derive(Debug, Clone)]
pub struct Project {
    /// Key.
    pub id: ProjectId,
    /// Short name for URLs and the command line.
    pub slug: String,
    /// The name shown.
    pub name: String,
    /// How many labelers each new task is given to.
    pub overlap: i16,
    /// How long a lease lasts, in seconds.
    pub lease_seconds: i32,
    /// Out of sight of its labelers.
    pub is_archived: bool,
}

/// What a researcher sets for a project.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name shown.
    pub name: String,
    /// K: candidates of a new ranking task where nothing else is said.
    pub candidates: i16,
    /// Labelers of a new task.
    pub overlap: i16,
    /// Labelers of a new task of a category, where not `overlap`: `{"chat": 3}`.
    pub overlap_by_category: Value,
    /// How long a lease lasts, in seconds.
    pub lease_seconds: i32,
    /// The order of the queue.
    pub next_task: String,
    /// Share of new tasks that are kept out of the choice by disagreement, 0 to 1.
    pub evaluation_share: f32,
    /// Share of leases that are gold tasks, 0 to 0.5.
    pub gold_share: f32,
    /// Share of leases that repeat an old task of the same labeler, 0 to 0.5.
    pub repeat_share: f32,
    /// Days after which a task may come back to its labeler.
    pub repeat_after_days: i16,
    /// Active seconds under which a submission is called too fast.
    pub least_seconds: i16,
    /// Every labeler may take its tasks; otherwise only members.
    pub is_open: bool,
}

impl Settings {
    /// What a new project begins with: the defaults of the table.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            candidates: 4,
            overlap: 1,
            overlap_by_category: serde_json::json!({}),
            lease_seconds: 3600,
            next_task: "oldest".to_owned(),
            evaluation_share: 0.2,
            gold_share: 0.0,
            repeat_share: 0.0,
            repeat_after_days: 7,
            least_seconds: 10,
            is_open: true,
        }
    }
}

/// The settings of a project.
pub async fn find_settings(db: &mut PgConnection, id: ProjectId) -> sqlx::Result<Option<Settings>> {
    sqlx::query_as!(
        Settings,
        r#"
        SELECT name, candidates, overlap, overlap_by_category, lease_seconds, next_task, evaluation_share,
               gold_share, repeat_share, repeat_after_days, least_seconds, is_open
        FROM projects
        WHERE id = $1
        "#,
        id.0
    )
    .fetch_optional(db)
    .await
}

/// Changes the settings of a project; new tasks and leases follow them. False when there is none.
pub async fn update_settings(
    db: &mut PgConnection,
    id: ProjectId,
    settings: &Settings,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        UPDATE projects
        SET name = $2, candidates = $3, overlap = $4, overlap_by_category = $5, lease_seconds = $6,
            next_task = $7, evaluation_share = $8, gold_share = $9, repeat_share = $10,
            repeat_after_days = $11, least_seconds = $12, is_open = $13
        WHERE id = $1
        "#,
        id.0,
        settings.name,
        settings.candidates,
        settings.overlap,
        settings.overlap_by_category,
        settings.lease_seconds,
        settings.next_task,
        settings.evaluation_share,
        settings.gold_share,
        settings.repeat_share,
        settings.repeat_after_days,
        settings.least_seconds,
        settings.is_open
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Finds a project by its slug.
pub async fn find_by_slug(db: &mut PgConnection, slug: &str) -> sqlx::Result<Option<Project>> {
    sqlx::query_as!(
        Project,
        r#"SELECT id AS "id: ProjectId", slug, name, overlap, lease_seconds, archived_at IS NOT NULL AS "is_archived!" FROM projects WHERE slug = $1"#,
        slug
    )
    .fetch_optional(db)
    .await
}

/// Finds a project by its id.
pub async fn find(db: &mut PgConnection, id: ProjectId) -> sqlx::Result<Option<Project>> {
    sqlx::query_as!(
        Project,
        r#"SELECT id AS "id: ProjectId", slug, name, overlap, lease_seconds, archived_at IS NOT NULL AS "is_archived!" FROM projects WHERE id = $1"#,
        id.0
    )
    .fetch_optional(db)
    .await
}

/// Every project, oldest first.
pub async fn list(db: &mut PgConnection) -> sqlx::Result<Vec<Project>> {
    sqlx::query_as!(
        Project,
        r#"SELECT id AS "id: ProjectId", slug, name, overlap, lease_seconds, archived_at IS NOT NULL AS "is_archived!" FROM projects ORDER BY created_at, id"#
    )
    .fetch_all(db)
    .await
}

/// Makes a project.
pub async fn insert(
    db: &mut PgConnection,
    slug: &str,
    name: &str,
    overlap: i16,
    lease_seconds: i32,
) -> sqlx::Result<ProjectId> {
    let id = ProjectId::new();
    sqlx::query!(
        "INSERT INTO projects (id, slug, name, overlap, lease_seconds) VALUES ($1, $2, $3, $4, $5)",
        id.0,
        slug,
        name,
        overlap,
        lease_seconds
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// Adds the next version of the guidelines and returns its number.
pub async fn insert_guidelines(
    db: &mut PgConnection,
    project_id: ProjectId,
    markdown: &Value,
    created_by: Option<AccountId>,
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"
        INSERT INTO guidelines (project_id, version, markdown, created_by)
        SELECT $1, coalesce(max(version), 0) + 1, $2, $3 FROM guidelines WHERE project_id = $1
        RETURNING version
        "#,
        project_id.0,
        markdown,
        created_by.map(|id| id.0)
    )
    .fetch_one(db)
    .await
}

/// The newest guidelines: version and a map from language to Markdown.
pub async fn find_guidelines(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> sqlx::Result<Option<(i32, Value)>> {
    let row = sqlx::query!(
        "SELECT version, markdown FROM guidelines WHERE project_id = $1 ORDER BY version DESC LIMIT 1",
        project_id.0
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.version, row.markdown)))
}

/// Adds the next version of the form and returns its number.
pub async fn insert_form(
    db: &mut PgConnection,
    project_id: ProjectId,
    fields: &Value,
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"
        INSERT INTO forms (project_id, version, fields)
        SELECT $1, coalesce(max(version), 0) + 1, $2 FROM forms WHERE project_id = $1
        RETURNING version
        "#,
        project_id.0,
        fields
    )
    .fetch_one(db)
    .await
}

/// The newest form: version and fields.
pub async fn find_form(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> sqlx::Result<Option<(i32, Value)>> {
    let row = sqlx::query!(
        "SELECT version, fields FROM forms WHERE project_id = $1 ORDER BY version DESC LIMIT 1",
        project_id.0
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.version, row.fields)))
}

/// The newest form; the standard one where the project has none.
///
/// # Errors
/// When the stored form cannot be read.
pub async fn newest_form(db: &mut PgConnection, project_id: ProjectId) -> AppResult<Form> {
    match find_form(db, project_id).await? {
        Some((_, fields)) => Ok(serde_json::from_value(fields).map_err(anyhow::Error::from)?),
        None => Ok(Form::default()),
    }
}

/// Makes those who write a project's versions, import into it or open its tasks wait for each other, so that none
/// misses what another wrote. Other tables stay free to refer to the project. Held until the transaction ends.
pub async fn lock(db: &mut PgConnection, id: ProjectId) -> sqlx::Result<()> {
    sqlx::query_scalar!(
        "SELECT id FROM projects WHERE id = $1 FOR NO KEY UPDATE",
        id.0
    )
    .fetch_optional(db)
    .await?;
    Ok(())
}

/// Takes a project out of its labelers' sight, or brings it back; nothing is deleted. False when there
/// is nothing to change.
pub async fn set_archived(
    db: &mut PgConnection,
    id: ProjectId,
    is_archived: bool,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        UPDATE projects SET archived_at = CASE WHEN $2 THEN now() END
        WHERE id = $1 AND (archived_at IS NOT NULL) <> $2
        "#,
        id.0,
        is_archived
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What a project holds.
#[derive(Debug)]
pub struct Figures {
    /// Prompts.
    pub prompts: i64,
    /// Tasks for the dataset.
    pub tasks: i64,
    /// Of those, closed.
    pub closed: i64,
    /// Places of the tasks that are not closed: a task has as many as labelers are to do it.
    pub places: i64,
    /// Of those, taken: submitted or being worked on.
    pub taken: i64,
    /// People assigned to it.
    pub members: i64,
}

/// Counts what a project holds.
pub async fn figures(db: &mut PgConnection, id: ProjectId) -> sqlx::Result<Figures> {
    sqlx::query_as!(
        Figures,
        r#"
        SELECT (SELECT count(*) FROM prompts WHERE project_id = $1) AS "prompts!",
               (SELECT count(*) FROM members WHERE project_id = $1) AS "members!",
               count(*) AS "tasks!",
               count(*) FILTER (WHERE closed_at IS NOT NULL) AS "closed!",
               coalesce(sum(overlap) FILTER (WHERE closed_at IS NULL), 0) AS "places!",
               coalesce(sum(n_held) FILTER (WHERE closed_at IS NULL), 0) AS "taken!"
        FROM tasks
        WHERE project_id = $1 AND purpose = 'label'
        "#,
        id.0
    )
    .fetch_one(db)
    .await
}
