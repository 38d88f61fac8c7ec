//! Snapshots: frozen selections. Their items are ids of rows that never change, in a fixed order,
//! so that the same snapshot is always written out as the same bytes.

use chrono::{DateTime, Utc};
use futures_util::Stream;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::ids::{AccountId, ProjectId, SnapshotId};
use crate::domain::snapshot::{Selection, SnapshotKind};

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
    /// Lines of the export.
    pub n_items: i64,
    /// Distinct prompts.
    pub n_prompts: i64,
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
               s.name, s.includes_simulated, s.labels, s.reviewed_categories, s.includes_personal, s.n_left_out, s.n_items, s.n_prompts, s.sha256, s.created_at,
               a.name AS "created_by?"
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
               s.name, s.includes_simulated, s.labels, s.reviewed_categories, s.includes_personal, s.n_left_out, s.n_items, s.n_prompts, s.sha256, s.created_at,
               a.name AS "created_by?"
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

/// Makes an empty snapshot; [`freeze`] and [`seal`] follow in the same transaction. Within a project
/// a name is given once: the database refuses another.
pub async fn insert(
    db: &mut PgConnection,
    selection: &Selection,
    name: &str,
    created_by: Option<AccountId>,
) -> sqlx::Result<SnapshotId> {
    let id = SnapshotId::new();
    sqlx::query!(
        r#"
        INSERT INTO snapshots (id, project_id, kind, name, includes_simulated, labels, reviewed_categories,
                               includes_personal, n_items, n_prompts, sha256, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, '', $9)
        "#,
        id.0,
        selection.project_id.0,
        selection.kind.as_str(),
        name,
        selection.include_simulated,
        selection.labels.as_str(),
        selection.reviewed_categories,
        selection.include_personal,
        created_by.map(|id| id.0)
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// What a snapshot was filled with.
#[derive(Debug, Clone, Copy)]
pub struct Frozen {
    /// Rows.
    pub n_items: i64,
    /// Rows that were selected but left out, because their prompt has personal data.
    pub n_left_out: i64,
}

/// Fills a snapshot with the selected rows.
pub async fn freeze(
    db: &mut PgConnection,
    id: SnapshotId,
    selection: &Selection,
) -> sqlx::Result<Frozen> {
    match selection.kind {
        SnapshotKind::Rankings => freeze_rankings(db, id, selection).await,
        SnapshotKind::Demonstrations => freeze_demonstrations(db, id, selection).await,
        SnapshotKind::Prompts => freeze_prompts(db, id, selection).await,
        SnapshotKind::Texts => freeze_texts(db, id, selection).await,
    }
}

/// The newest version of each submitted ranking; where somebody decided between those of a task, as the
/// selection says.
async fn freeze_rankings(
    db: &mut PgConnection,
    id: SnapshotId,
    selection: &Selection,
) -> sqlx::Result<Frozen> {
    sqlx::query_as!(
        Frozen,
        r#"
        WITH reviewed AS MATERIALIZED (
            SELECT DISTINCT ON (prompt_id) prompt_id, id, content ->> 'category' AS category,
                   bool_or((content ->> 'personal_data')::BOOLEAN) OVER (PARTITION BY prompt_id) AS is_personal
            FROM current_reviews
            WHERE project_id = $2
            ORDER BY prompt_id, created_at DESC, id DESC
        ), selected AS MATERIALIZED (
            SELECT r.id, p.external_id, v.id AS review_id, coalesce(v.is_personal, FALSE) AS is_personal
            FROM rankings r
            JOIN assignments a ON a.id = r.assignment_id
            JOIN accounts u ON u.id = a.labeler_id
            JOIN tasks t ON t.id = a.task_id
            JOIN prompts p ON p.id = t.prompt_id
            LEFT JOIN reviewed v ON v.prompt_id = p.id
            WHERE t.project_id = $2
              AND a.status = 'submitted'
              AND t.purpose = 'label'
              AND (SELECT count(*) FROM ratings g WHERE g.ranking_id = r.id AND g.rank IS NOT NULL) >= 2
              AND NOT EXISTS (SELECT 1 FROM rankings n WHERE n.assignment_id = a.id AND n.version > r.version)
              AND (cardinality($3::text[]) = 0
                   OR CASE WHEN $5 THEN coalesce(v.category, p.category) ELSE p.category END = ANY($3))
              AND ($4 OR NOT u.is_simulated)
              AND CASE $7
                  WHEN 'all' THEN TRUE
                  WHEN 'labels' THEN NOT a.is_adjudication
                  ELSE NOT EXISTS (
                      SELECT 1 FROM assignments d JOIN rankings s ON s.assignment_id = d.id
                      WHERE d.task_id = t.id AND d.is_adjudication
                        AND (NOT a.is_adjudication OR (s.created_at, s.id) > (r.created_at, r.id))) END
        ), taken AS (
            INSERT INTO snapshot_items (snapshot_id, position, item_id, review_id)
            SELECT $1, row_number() OVER (ORDER BY external_id COLLATE "C", id) - 1, id, review_id
            FROM selected
            WHERE $6 OR NOT is_personal
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM taken) AS "n_items!",
               (SELECT count(*) FROM selected WHERE is_personal AND NOT $6) AS "n_left_out!"
        "#,
        id.0,
        selection.project_id.0,
        &selection.categories,
        selection.include_simulated,
        selection.reviewed_categories,
        selection.include_personal,
        selection.labels.as_str()
    )
    .fetch_one(db)
    .await
}

/// Demonstrations of files, and those of the newest version of each writing that is for the dataset.
async fn freeze_demonstrations(
    db: &mut PgConnection,
    id: SnapshotId,
    selection: &Selection,
) -> sqlx::Result<Frozen> {
    sqlx::query_as!(
        Frozen,
        r#"
        WITH personal AS MATERIALIZED (
            SELECT DISTINCT prompt_id FROM current_reviews
            WHERE project_id = $2 AND (content ->> 'personal_data')::BOOLEAN
        ), selected AS MATERIALIZED (
            SELECT d.id, d.external_id, s.prompt_id IS NOT NULL AS is_personal
            FROM demonstrations d
            LEFT JOIN accounts u ON u.id = d.labeler_id
            LEFT JOIN writings w ON w.id = d.writing_id
            LEFT JOIN assignments a ON a.id = w.assignment_id
            LEFT JOIN tasks t ON t.id = a.task_id
            LEFT JOIN personal s ON s.prompt_id = t.prompt_id
            WHERE d.project_id = $2
              AND (d.writing_id IS NULL
                   OR a.status = 'submitted' AND t.purpose = 'label'
                      AND NOT EXISTS (SELECT 1 FROM writings n
                                      WHERE n.assignment_id = w.assignment_id AND n.version > w.version))
              AND (cardinality($3::text[]) = 0 OR d.category = ANY($3))
              AND ($4 OR NOT coalesce(u.is_simulated, false))
        ), taken AS (
            INSERT INTO snapshot_items (snapshot_id, position, item_id)
            SELECT $1, row_number() OVER (ORDER BY external_id COLLATE "C") - 1, id
            FROM selected
            WHERE $5 OR NOT is_personal
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM taken) AS "n_items!",
               (SELECT count(*) FROM selected WHERE is_personal AND NOT $5) AS "n_left_out!"
        "#,
        id.0,
        selection.project_id.0,
        &selection.categories,
        selection.include_simulated,
        selection.include_personal
    )
    .fetch_one(db)
    .await
}

async fn freeze_prompts(
    db: &mut PgConnection,
    id: SnapshotId,
    selection: &Selection,
) -> sqlx::Result<Frozen> {
    sqlx::query_as!(
        Frozen,
        r#"
        WITH reviewed AS MATERIALIZED (
            SELECT DISTINCT ON (prompt_id) prompt_id, id, content ->> 'category' AS category,
                   bool_or((content ->> 'personal_data')::BOOLEAN) OVER (PARTITION BY prompt_id) AS is_personal
            FROM current_reviews
            WHERE project_id = $2
            ORDER BY prompt_id, created_at DESC, id DESC
        ), selected AS MATERIALIZED (
            SELECT p.id, p.external_id, v.id AS review_id, coalesce(v.is_personal, FALSE) AS is_personal
            FROM prompts p
            LEFT JOIN reviewed v ON v.prompt_id = p.id
            WHERE p.project_id = $2
              AND (cardinality($3::text[]) = 0
                   OR CASE WHEN $4 THEN coalesce(v.category, p.category) ELSE p.category END = ANY($3))
        ), taken AS (
            INSERT INTO snapshot_items (snapshot_id, position, item_id, review_id)
            SELECT $1, row_number() OVER (ORDER BY external_id COLLATE "C") - 1, id, review_id
            FROM selected
            WHERE $5 OR NOT is_personal
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM taken) AS "n_items!",
               (SELECT count(*) FROM selected WHERE is_personal AND NOT $5) AS "n_left_out!"
        "#,
        id.0,
        selection.project_id.0,
        &selection.categories,
        selection.reviewed_categories,
        selection.include_personal
    )
    .fetch_one(db)
    .await
}

async fn freeze_texts(
    db: &mut PgConnection,
    id: SnapshotId,
    selection: &Selection,
) -> sqlx::Result<Frozen> {
    let done = sqlx::query!(
        r#"
        INSERT INTO snapshot_items (snapshot_id, position, item_id)
        SELECT $1, row_number() OVER (ORDER BY external_id COLLATE "C") - 1, id
        FROM texts
        WHERE project_id = $2
        "#,
        id.0,
        selection.project_id.0
    )
    .execute(db)
    .await?;
    Ok(Frozen {
        n_items: done.rows_affected() as i64,
        n_left_out: 0,
    })
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
    n_prompts: i64,
    sha256: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE snapshots SET n_items = $2, n_left_out = $3, n_prompts = $4, sha256 = $5 WHERE id = $1",
        id.0,
        frozen.n_items,
        frozen.n_left_out,
        n_prompts,
        sha256
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
    /// Who ranked.
    pub labeler_id: Uuid,
    /// Whether a program ranked.
    pub is_simulated: bool,
    /// Slots in the order shown.
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
    /// In slot order: objects with `id`, `text`, `model`, `rank`, `rating` (or null) and `flags`.
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
               p.customer, a.labeler_id, u.is_simulated,
               a.display_order, a.guidelines_version, a.form_version,
               CASE WHEN s.line_format >= 2 THEN r.note ELSE '' END AS "note!",
               s.line_format >= 3 AND a.is_adjudication AS "is_adjudication!",
               CASE WHEN s.line_format >= 3 THEN a.chosen_by END AS chosen_by,
               CASE WHEN s.line_format >= 3 THEN a.disagreement END AS disagreement,
               (SELECT jsonb_agg(jsonb_build_object('id', c.id, 'text', c.text, 'model', c.model, 'rank', g.rank,
                                                    'rating', g.overall, 'flags', g.flags) ORDER BY g.slot)
                FROM ratings g
                JOIN completions c ON c.id = g.completion_id
                WHERE g.ranking_id = r.id AND g.rank IS NOT NULL) AS "completions!"
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
}

/// The demonstrations of a snapshot, in its order.
pub fn stream_demonstrations(
    db: &mut PgConnection,
    id: SnapshotId,
) -> impl Stream<Item = sqlx::Result<DemonstrationItem>> + Send {
    sqlx::query_as!(
        DemonstrationItem,
        r#"
        SELECT d.external_id, d.messages
        FROM snapshot_items i
        JOIN demonstrations d ON d.id = i.item_id
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
               p.customer, v.content AS "review?"
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
