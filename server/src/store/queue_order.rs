//! The order of a project's queue: what `tasks.sort_key` is, and why (`tasks.chosen_by`). The queue
//! takes the lowest key first, so a new order is new keys, and leasing stays the first entry of an index.

use sqlx::PgConnection;

use crate::domain::ids::ProjectId;
use crate::domain::task::NextTask;
use crate::store::informative;

/// Gives every task of a project that is not closed its place in the order that the project has now.
/// Call it where the order was changed. Returns how many tasks moved.
pub async fn place_all(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<u64> {
    match find_order(db, project_id).await? {
        Some(NextTask::Random) => place_at_random(db, project_id).await,
        Some(NextTask::Oldest) => place_by_age(db, project_id, &["oldest"]).await,
        // Those of which it was measured how far reward models disagree come first; one that nobody
        // measured waits its turn behind them.
        Some(NextTask::Informative) => {
            let kept = ["oldest", "informative", "evaluation"];
            let n_moved = place_by_age(db, project_id, &kept).await?;
            Ok(n_moved + informative::place(db, project_id).await?)
        }
        None => Ok(0),
    }
}

/// Gives tasks that were just made their place; those that have one keep it. Call it after an import or
/// a generation, in their transaction. A new task stands by its age until then.
pub async fn place_new(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<u64> {
    match find_order(db, project_id).await? {
        Some(NextTask::Random) => place_at_random(db, project_id).await,
        Some(NextTask::Oldest | NextTask::Informative) | None => Ok(0),
    }
}

async fn find_order(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> sqlx::Result<Option<NextTask>> {
    let word = sqlx::query_scalar!("SELECT next_task FROM projects WHERE id = $1", project_id.0)
        .fetch_optional(db)
        .await?;
    Ok(word.and_then(|word| word.parse().ok()))
}

/// The oldest first. Tasks of one import were made at one moment; their keys, which count up, keep them
/// in the order of its lines. Those that stand where they stand for a reason in `kept` stay there. Rows
/// are locked in the order that leasing locks them in, so that neither waits for the other.
async fn place_by_age(
    db: &mut PgConnection,
    project_id: ProjectId,
    kept: &[&str],
) -> sqlx::Result<u64> {
    let kept: Vec<String> = kept.iter().map(|&word| word.to_owned()).collect();
    let done = sqlx::query!(
        r#"
        UPDATE tasks t
        SET sort_key = extract(epoch FROM t.created_at), chosen_by = 'oldest'
        FROM (
            SELECT id FROM tasks
            WHERE project_id = $1 AND purpose = 'label' AND closed_at IS NULL AND chosen_by <> ALL ($2)
            ORDER BY sort_key, id
            FOR UPDATE
        ) AS open
        WHERE t.id = open.id
        "#,
        project_id.0,
        &kept
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// In the order of a draw that each task has by its key alone (`random_key`): the same for all labelers,
/// and whether a task came first or last.
async fn place_at_random(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        UPDATE tasks t
        SET sort_key = random_key(t.id), chosen_by = 'random'
        FROM (
            SELECT id FROM tasks
            WHERE project_id = $1 AND purpose = 'label' AND closed_at IS NULL AND chosen_by <> 'random'
            ORDER BY sort_key, id
            FOR UPDATE
        ) AS open
        WHERE t.id = open.id
        "#,
        project_id.0
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
