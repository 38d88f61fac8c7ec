//! The order of the queue by disagreement: what reward models were measured to disagree on, and the places
//! that follow from it. Tasks that nobody measured wait behind, in the order that they have.

use serde_json::Value;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::domain::disagreement::order;
use crate::domain::ids::{ProjectId, TaskId};

/// A task to measure.
#[derive(Debug)]
pub struct TaskTexts {
    /// Key.
    pub id: TaskId,
    /// The prompt's id in its file.
    pub external_id: String,
    /// The prompt: a string or turns.
    pub body: Value,
    /// Texts of the candidates in slot order.
    pub texts: Vec<String>,
}

/// Open tasks of a project that rank or compare, with a place free, in the order of their keys: at most
/// `limit`, after `after`.
pub async fn list_open(
    db: &mut PgConnection,
    project_id: ProjectId,
    after: Option<TaskId>,
    limit: i64,
) -> sqlx::Result<Vec<TaskTexts>> {
    sqlx::query_as!(
        TaskTexts,
        r#"
        SELECT t.id AS "id: TaskId", p.external_id, p.body,
               ARRAY(SELECT c.text FROM candidates k JOIN completions c ON c.id = k.completion_id
                     WHERE k.task_id = t.id ORDER BY k.slot) AS "texts!"
        FROM tasks t
        JOIN prompts p ON p.id = t.prompt_id
        WHERE t.project_id = $1 AND t.purpose = 'label' AND t.kind IN ('rank', 'compare')
          AND t.closed_at IS NULL AND t.n_held < t.overlap
          AND ($2::UUID IS NULL OR t.id > $2)
        ORDER BY t.id
        LIMIT $3
        "#,
        project_id.0,
        after.map(|id| id.0),
        limit
    )
    .fetch_all(db)
    .await
}

/// Writes down what was measured of tasks.
pub async fn set_disagreement(
    db: &mut PgConnection,
    measured: &[(TaskId, f64)],
) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = measured.iter().map(|(id, _)| id.0).collect();
    let values: Vec<f32> = measured.iter().map(|(_, value)| *value as f32).collect();
    // Locked in one order, so that two that measure never wait for each other.
    sqlx::query!(
        r#"
        UPDATE tasks t
        SET disagreement = n.value
        FROM (SELECT id FROM tasks WHERE id = ANY ($1) ORDER BY sort_key, id FOR UPDATE) AS own,
             unnest($1::UUID[], $2::REAL[]) AS n (id, value)
        WHERE t.id = own.id AND n.id = own.id
        "#,
        &ids,
        &values
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Gives every open task of a project that was measured its place before all that were not, and says why it
/// stands there. Returns how many moved.
pub async fn place(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<u64> {
    let mut transaction = db.begin().await?;
    let share = sqlx::query_scalar!(
        "SELECT evaluation_share FROM projects WHERE id = $1",
        project_id.0
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let rows = sqlx::query!(
        r#"
        SELECT id, disagreement AS "disagreement!"
        FROM tasks
        WHERE project_id = $1 AND purpose = 'label' AND closed_at IS NULL AND disagreement IS NOT NULL
        ORDER BY sort_key, id
        FOR UPDATE
        "#,
        project_id.0
    )
    .fetch_all(&mut *transaction)
    .await?;
    let measured: Vec<(TaskId, f64)> = rows
        .iter()
        .map(|row| (TaskId(row.id), f64::from(row.disagreement)))
        .collect();
    let placed = order(project_id, &measured, f64::from(share.unwrap_or_default()));
    let ids: Vec<Uuid> = placed.iter().map(|(id, _)| id.0).collect();
    let keys: Vec<f64> = (0..placed.len()).map(|index| index as f64).collect();
    let reasons: Vec<String> = placed.iter().map(|(_, why)| why.to_string()).collect();
    let done = sqlx::query!(
        r#"
        UPDATE tasks t
        SET sort_key = n.key, chosen_by = n.why
        FROM unnest($1::UUID[], $2::DOUBLE PRECISION[], $3::TEXT[]) AS n (id, key, why)
        WHERE t.id = n.id AND (t.sort_key, t.chosen_by) IS DISTINCT FROM (n.key, n.why)
        "#,
        &ids,
        &keys,
        &reasons
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(done.rows_affected())
}
