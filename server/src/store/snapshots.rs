//! Snapshots: frozen selections. Their items are ids of rows that never change, in a fixed order,
//! so that the same snapshot is always written out as the same bytes.

use chrono::{DateTime, Utc};
use futures_util::Stream;
use serde_json::{Value, json};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::ids::{AccountId, ProjectId, SnapshotId};
use crate::domain::snapshot::{Selection, SnapshotKind};
use crate::domain::snapshot_filters::{Filters, LeftOut};
use crate::store::snapshot_selection::Frozen;

/// A snapshot as a list shows it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Key.
    pub id: SnapshotId,
    /// The project it was taken of.
    pub project_id: ProjectId,
    /// The project's short name.
    pub project_slug: String,
    /// What it holds, as the database's word.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether what simulated labelers said was taken too.
    pub includes_simulated: bool,
    /// Of rankings: what became of labels that somebody decided between, as the database's word.
    pub labels: String,
    /// Whether a prompt's category is that of its review.
    pub reviewed_categories: bool,
    /// Whether prompts with personal data were taken too.
    pub includes_personal: bool,
    /// Records that were left out because their prompt has personal data.
    pub n_left_out: i64,
    /// Which tasks and labelers were left out on purpose.
    pub filters: Json<Filters>,
    /// How many that were.
    pub left_out: Json<LeftOut>,
    /// Lines of the export.
    pub n_items: i64,
    /// Distinct prompts.
    pub n_prompts: i64,
    /// Which fields its lines have.
    pub line_format: i16,
    /// Of the export in its own format, lower-case hex.
    pub sha256: String,
    /// When it was taken.
    pub created_at: DateTime<Utc>,
    /// Who took it.
    pub created_by: Option<String>,
}

impl Snapshot {
    /// What it holds.
    ///
    /// # Errors
    /// When the database holds a word that this program does not know.
    pub fn parsed_kind(&self) -> anyhow::Result<SnapshotKind> {
        self.kind
            .parse()
            .map_err(|message: String| anyhow::anyhow!("snapshot {}: {message}", self.id))
    }
}

/// Finds a snapshot.
pub async fn find(db: &mut PgConnection, id: SnapshotId) -> sqlx::Result<Option<Snapshot>> {
    sqlx::query_as!(
        Snapshot,
        r#"
        SELECT s.id AS "id: SnapshotId", s.project_id AS "project_id: ProjectId", p.slug AS project_slug, s.kind,
               s.name, s.includes_simulated, s.labels, s.reviewed_categories, s.includes_personal, s.n_left_out,
               s.filters AS "filters: Json<Filters>", s.left_out AS "left_out: Json<LeftOut>", s.n_items, s.n_prompts,
               s.line_format, s.sha256, s.created_at, a.name AS "created_by?"
        FROM snapshots s
        JOIN projects p ON p.id = s.project_id
        LEFT JOIN accounts a ON a.id = s.created_by
        WHERE s.id = $1
        "#,
        id.0
    )
    .fetch_optional(db)
    .await
}

/// The newest snapshots, at most `limit`, older than `before` where it is given. With `owner`, only of
/// projects that this account may administer.
pub async fn list(
    db: &mut PgConnection,
    owner: Option<AccountId>,
    before: Option<SnapshotId>,
    limit: i64,
) -> sqlx::Result<Vec<Snapshot>> {
    sqlx::query_as!(
        Snapshot,
        r#"
        SELECT s.id AS "id: SnapshotId", s.project_id AS "project_id: ProjectId", p.slug AS project_slug, s.kind,
               s.name, s.includes_simulated, s.labels, s.reviewed_categories, s.includes_personal, s.n_left_out,
               s.filters AS "filters: Json<Filters>", s.left_out AS "left_out: Json<LeftOut>", s.n_items, s.n_prompts,
               s.line_format, s.sha256, s.created_at, a.name AS "created_by?"
        FROM snapshots s
        JOIN projects p ON p.id = s.project_id
        LEFT JOIN accounts a ON a.id = s.created_by
        WHERE ($1::uuid IS NULL OR s.id < $1)
          AND ($3::uuid IS NULL OR may_administer($3, s.project_id))
        ORDER BY s.id DESC
        LIMIT $2
        "#,
        before.map(|id| id.0),
        limit,
        owner.map(|id| id.0)
    )
    .fetch_all(db)
    .await
}

/// The names of a project's snapshots that begin with `start`.
pub async fn list_names(
    db: &mut PgConnection,
    project_id: ProjectId,
    start: &str,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT name FROM snapshots WHERE project_id = $1 AND starts_with(name, $2)",
        project_id.0,
        start
    )
    .fetch_all(db)
    .await
}

/// Makes an empty snapshot; [`freeze`](super::snapshot_selection::freeze) and [`seal`] follow in the same transaction. Within a project
/// a name is given once: the database refuses another.
pub async fn insert(
    db: &mut PgConnection,
    selection: &Selection,
    name: &str,
    created_by: Option<AccountId>,
) -> sqlx::Result<SnapshotId> {
    let id = SnapshotId::new();
    let filters = match selection.filters.is_empty() {
        true => json!({}),
        false => json!(selection.filters),
    };
    sqlx::query!(
        r#"
        INSERT INTO snapshots (id, project_id, kind, name, includes_simulated, labels, reviewed_categories,
                               includes_personal, filters, n_items, n_prompts, sha256, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $10, 0, 0, '', $9)
        "#,
        id.0,
        selection.project_id.0,
        selection.kind.as_str(),
        name,
        selection.include_simulated,
        selection.labels.as_str(),
        selection.reviewed_categories,
        selection.include_personal,
        created_by.map(|id| id.0),
        filters
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// How many distinct prompts a snapshot of rankings holds.
pub async fn count_ranked_prompts(db: &mut PgConnection, id: SnapshotId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        SELECT count(DISTINCT t.prompt_id) AS "n!"
        FROM snapshot_items i
        JOIN snapshots s ON s.id = i.snapshot_id
        JOIN rankings r ON r.id = i.item_id
        JOIN assignments a ON a.id = r.assignment_id
        JOIN tasks t ON t.id = a.task_id
        WHERE i.snapshot_id = $1
        "#,
        id.0
    )
    .fetch_one(db)
    .await
}

/// Writes down what was counted and hashed.
pub async fn seal(
    db: &mut PgConnection,
    id: SnapshotId,
    frozen: Frozen,
    left_out: &LeftOut,
    n_prompts: i64,
    sha256: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE snapshots SET n_items = $2, n_left_out = $3, n_prompts = $4, sha256 = $5, left_out = $6 WHERE id = $1",
        id.0,
        frozen.n_items,
        frozen.n_left_out,
        n_prompts,
        sha256,
        json!(left_out)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A ranking of a snapshot with everything that its export line says.
#[derive(Debug)]
pub struct RankingItem {
    /// Key of the ranking.
    pub ranking_id: Uuid,
    /// The prompt's id in its file.
    pub external_id: String,
    /// The prompt: a JSON text or an array of turns.
    pub body: Value,
    /// The prompt's category.
    pub category: String,
    /// Whose prompt it is, where known.
    pub customer: Option<String>,
    /// What stays on one side of a split: the customer, or the prompt where none is known. The prompt alone in
    /// snapshots sealed before customers decided.
    pub unit: String,
    /// Who ranked.
    pub labeler_id: Uuid,
    /// Whether a program ranked.
    pub is_simulated: bool,
    /// Slots in the order shown; empty where the file that brought the ranking does not say.
    pub display_order: Vec<i16>,
    /// The guidelines in force.
    pub guidelines_version: i32,
    /// The form that was filled in.
    pub form_version: i32,
    /// What the labeler wrote beside it; empty in snapshots sealed before notes were exported.
    pub note: String,
    /// A decision between labels; never in snapshots sealed before these were exported.
    pub is_adjudication: bool,
    /// Why the labeler got the task, where it was written down and the snapshot exports it.
    pub chosen_by: Option<String>,
    /// Of reward models over the candidates when the labeler got the task, likewise.
    pub disagreement: Option<f32>,
    /// Of a comparison of two: how much better the preferred one is; where the snapshot exports it, as what
    /// follows.
    pub strength: Option<i16>,
    /// None of the candidates is any good.
    pub is_all_bad: bool,
    /// Milliseconds of work until this version was submitted, where they were counted.
    pub active_ms: Option<i64>,
    /// Milliseconds open but not active, likewise.
    pub idle_ms: Option<i64>,
    /// In slot order: objects with `id`, `text`, `model`, `rank`, `rating` (or null), `scales`, `flags` and
    /// `note`. The rank is null for a candidate that was left unranked; snapshots sealed before those were
    /// exported lack it. Scales and notes are empty in snapshots sealed before these were.
    pub completions: Value,
}

/// The rankings of a snapshot, in its order, as the database sends them.
pub fn stream_rankings(
    db: &mut PgConnection,
    id: SnapshotId,
) -> impl Stream<Item = sqlx::Result<RankingItem>> + Send {
    sqlx::query_as!(
        RankingItem,
        r#"
        SELECT r.id AS ranking_id, p.external_id, p.body,
               CASE WHEN s.reviewed_categories THEN coalesce(v.content ->> 'category', p.category)
                    ELSE p.category END AS "category!",
               p.customer, CASE WHEN s.line_format >= 4 THEN coalesce(p.customer, p.external_id)
                                ELSE p.external_id END AS "unit!",
               a.labeler_id, u.is_simulated,
               a.display_order, a.guidelines_version, a.form_version,
               CASE WHEN s.line_format >= 2 THEN r.note ELSE '' END AS "note!",
               s.line_format >= 3 AND a.is_adjudication AS "is_adjudication!",
               CASE WHEN s.line_format >= 3 THEN a.chosen_by END AS chosen_by,
               CASE WHEN s.line_format >= 3 THEN a.disagreement END AS disagreement,
               CASE WHEN s.line_format >= 5 THEN r.strength END AS strength,
               s.line_format >= 5 AND r.is_all_bad AS "is_all_bad!",
               -- Nobody submits without having been active: 0 is what was not counted.
               CASE WHEN s.line_format >= 5 AND r.active_ms > 0 THEN r.active_ms END AS active_ms,
               CASE WHEN s.line_format >= 5 AND r.active_ms > 0 THEN r.idle_ms END AS idle_ms,
               (SELECT jsonb_agg(jsonb_build_object(
                           'id', c.id, 'text', c.text, 'model', c.model, 'rank', g.rank, 'rating', g.overall,
                           'scales', CASE WHEN s.line_format >= 5 THEN g.scales ELSE '{}' END, 'flags', g.flags,
                           'note', CASE WHEN s.line_format >= 5 THEN g.note ELSE '' END) ORDER BY g.slot)
                FROM ratings g
                JOIN completions c ON c.id = g.completion_id
                WHERE g.ranking_id = r.id AND (g.rank IS NOT NULL OR s.line_format >= 4)) AS "completions!"
        FROM snapshot_items i
        JOIN snapshots s ON s.id = i.snapshot_id
        JOIN rankings r ON r.id = i.item_id
        JOIN assignments a ON a.id = r.assignment_id
        JOIN accounts u ON u.id = a.labeler_id
        JOIN tasks t ON t.id = a.task_id
        JOIN prompts p ON p.id = t.prompt_id
        LEFT JOIN reviews v ON v.id = i.review_id
        WHERE i.snapshot_id = $1
        ORDER BY i.position
        "#,
        id.0
    )
    .fetch(db)
}

/// A demonstration of a snapshot.
#[derive(Debug)]
pub struct DemonstrationItem {
    /// Its id in its file.
    pub external_id: String,
    /// An array of turns.
    pub messages: Value,
    /// What it was made of, of a writing that gave several; none in snapshots sealed before this was
    /// exported.
    pub writing: Option<String>,
}

/// The demonstrations of a snapshot, in its order.
pub fn stream_demonstrations(
    db: &mut PgConnection,
    id: SnapshotId,
) -> impl Stream<Item = sqlx::Result<DemonstrationItem>> + Send {
    sqlx::query_as!(
        DemonstrationItem,
        r#"
        SELECT d.external_id, d.messages,
               CASE WHEN s.line_format >= 4 THEN coalesce(w.assignment_id::TEXT, d.writing) END AS writing
        FROM snapshot_items i
        JOIN snapshots s ON s.id = i.snapshot_id
        JOIN demonstrations d ON d.id = i.item_id
        LEFT JOIN writings w ON w.id = d.writing_id
        WHERE i.snapshot_id = $1
        ORDER BY i.position
        "#,
        id.0
    )
    .fetch(db)
}

/// A prompt of a snapshot.
#[derive(Debug)]
pub struct PromptItem {
    /// Its id in its file.
    pub external_id: String,
    /// A JSON text or an array of turns.
    pub body: Value,
    /// Its category.
    pub category: String,
    /// Whose it is, where known.
    pub customer: Option<String>,
    /// What stays on one side of a split, as of a ranking.
    pub unit: String,
    /// What its newest reviewer said of it, where it was reviewed.
    pub review: Option<Value>,
}

/// The prompts of a snapshot, in its order.
pub fn stream_prompts(
    db: &mut PgConnection,
    id: SnapshotId,
) -> impl Stream<Item = sqlx::Result<PromptItem>> + Send {
    sqlx::query_as!(
        PromptItem,
        r#"
        SELECT p.external_id, p.body,
               CASE WHEN s.reviewed_categories THEN coalesce(v.content ->> 'category', p.category)
                    ELSE p.category END AS "category!",
               p.customer, CASE WHEN s.line_format >= 4 THEN coalesce(p.customer, p.external_id)
                                ELSE p.external_id END AS "unit!",
               v.content AS "review?"
        FROM snapshot_items i
        JOIN snapshots s ON s.id = i.snapshot_id
        JOIN prompts p ON p.id = i.item_id
        LEFT JOIN reviews v ON v.id = i.review_id
        WHERE i.snapshot_id = $1
        ORDER BY i.position
        "#,
        id.0
    )
    .fetch(db)
}

/// A text of a snapshot.
#[derive(Debug)]
pub struct TextItem {
    /// Its id in its file.
    pub external_id: String,
    /// The text.
    pub body: String,
}

/// The texts of a snapshot, in its order.
pub fn stream_texts(
    db: &mut PgConnection,
    id: SnapshotId,
) -> impl Stream<Item = sqlx::Result<TextItem>> + Send {
    sqlx::query_as!(
        TextItem,
        r#"
        SELECT x.external_id, x.body
        FROM snapshot_items i
        JOIN texts x ON x.id = i.item_id
        WHERE i.snapshot_id = $1
        ORDER BY i.position
        "#,
        id.0
    )
    .fetch(db)
}
