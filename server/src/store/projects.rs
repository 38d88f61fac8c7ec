//! Projects, their guidelines and their forms.

use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::ids::{AccountId, ProjectId};

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
        r#"SELECT id AS "id: ProjectId", slug, name, overlap, lease_seconds FROM projects WHERE slug = $1"#,
        slug
    )
    .fetch_optional(db)
    .await
}

/// Finds a project by its id.
pub async fn find(db: &mut PgConnection, id: ProjectId) -> sqlx::Result<Option<Project>> {
    sqlx::query_as!(
        Project,
        r#"SELECT id AS "id: ProjectId", slug, name, overlap, lease_seconds FROM projects WHERE id = $1"#,
        id.0
    )
    .fetch_optional(db)
    .await
}

/// Every project, oldest first.
pub async fn list(db: &mut PgConnection) -> sqlx::Result<Vec<Project>> {
    sqlx::query_as!(
        Project,
        r#"SELECT id AS "id: ProjectId", slug, name, overlap, lease_seconds FROM projects ORDER BY created_at, id"#
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

/// A given version of the form.
pub async fn find_form_version(
    db: &mut PgConnection,
    project_id: ProjectId,
    version: i32,
) -> sqlx::Result<Option<Value>> {
    sqlx::query_scalar!(
        "SELECT fields FROM forms WHERE project_id = $1 AND version = $2",
        project_id.0,
        version
    )
    .fetch_optional(db)
    .await
}

/// What the home page counts.
#[derive(Debug)]
pub struct Figures {
    /// Assignments of this labeler that are leased now.
    pub leased: i64,
    /// All prompts.
    pub prompts: i64,
    /// All rankings by people.
    pub rankings: i64,
    /// All snapshots.
    pub snapshots: i64,
    /// Runs queued or running.
    pub active_runs: i64,
    /// All checkpoints.
    pub checkpoints: i64,
}

/// Counts what there is, and what this labeler holds.
pub async fn figures(db: &mut PgConnection, labeler_id: AccountId) -> sqlx::Result<Figures> {
    sqlx::query_as!(
        Figures,
        r#"
        SELECT
            (SELECT count(*) FROM assignments
             WHERE labeler_id = $1 AND status = 'leased' AND lease_until > now()) AS "leased!",
            (SELECT count(*) FROM prompts) AS "prompts!",
            (SELECT count(*) FROM assignments a JOIN accounts b ON b.id = a.labeler_id
             WHERE a.status = 'submitted' AND NOT b.is_simulated) AS "rankings!",
            (SELECT count(*) FROM snapshots) AS "snapshots!",
            (SELECT count(*) FROM runs WHERE status IN ('queued', 'running')) AS "active_runs!",
            (SELECT count(*) FROM checkpoints) AS "checkpoints!"
        "#,
        labeler_id.0
    )
    .fetch_one(db)
    .await
}
