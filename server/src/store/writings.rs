//! Writings: what labelers wrote, with the demonstrations made of it. Written together, never changed.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::ids::{DemonstrationId, WritingId};
use crate::domain::writing::Writing;
use crate::error::AppResult;
use crate::store::assignments::Assignment;
use crate::store::submissions::{Head, Submitted};
use crate::store::tasks::TaskView;

/// Writes what was written and the demonstrations that it makes: one, or one for each pair of a few-shot
/// demonstration. The caller holds the transaction.
pub(super) async fn insert(
    db: &mut PgConnection,
    assignment: &Assignment,
    head: &Head<'_>,
    writing: &Writing,
    view: &TaskView,
) -> AppResult<Submitted> {
    let id = WritingId::new();
    let content = serde_json::to_value(writing).map_err(anyhow::Error::from)?;
    sqlx::query!(
        r#"
        INSERT INTO writings (id, assignment_id, version, idempotency_key, request_sha256, content, note,
                             active_ms, idle_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        "#,
        id.0,
        assignment.id.0,
        head.version,
        head.key,
        head.digest,
        content,
        writing.note,
        head.time.active_ms,
        head.time.idle_ms
    )
    .execute(&mut *db)
    .await?;
    insert_demonstrations(db, assignment, id, writing, view).await?;
    Ok(Submitted {
        id: id.0,
        version: head.version,
    })
}

/// Demonstrations are called after the writing: by its id, with a number where there are several.
async fn insert_demonstrations(
    db: &mut PgConnection,
    assignment: &Assignment,
    id: WritingId,
    writing: &Writing,
    view: &TaskView,
) -> AppResult<()> {
    let name = id.to_string();
    let conversations = writing.conversations(&view.prompt, name.as_bytes());
    let messages: Vec<Value> = conversations
        .and_then(|all| all.iter().map(serde_json::to_value).collect())
        .map_err(anyhow::Error::from)?;
    let names: Vec<String> = match messages.len() {
        1 => vec![name],
        n => (1..=n).map(|number| format!("{name}-{number}")).collect(),
    };
    let ids: Vec<Uuid> = messages.iter().map(|_| DemonstrationId::new().0).collect();
    let about = writing.about.as_ref();
    let category = about.map_or(&view.category, |about| &about.category);
    sqlx::query!(
        r#"
        INSERT INTO demonstrations (id, project_id, external_id, messages, category, labeler_id, source, writing_id)
        SELECT n.id, $2, n.external_id, n.messages, $3, a.labeler_id, 'labeler', $4
        FROM unnest($5::UUID[], $6::TEXT[], $7::JSONB[]) AS n (id, external_id, messages)
        JOIN assignments a ON a.id = $1
        "#,
        assignment.id.0,
        assignment.project_id.0,
        category,
        id.0,
        &ids,
        &names,
        &messages
    )
    .execute(db)
    .await?;
    Ok(())
}
