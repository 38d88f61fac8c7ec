//! All SQL: one file for each aggregate, plain async functions over a connection.

pub mod accounts;
pub mod adjudication;
pub mod ahead;
pub mod api_tokens;
pub mod assignments;
pub mod attention;
pub mod audit_events;
pub mod checkpoints;
pub mod completions;
pub mod consent_refusals;
mod copy;
pub mod demonstrations;
pub mod exports;
pub mod forms;
pub mod gold;
pub mod history;
pub mod home;
pub mod imported_rankings;
pub mod imports;
pub mod informative;
pub mod key_bindings;
pub mod label_withdrawals;
pub mod labels;
pub mod members;
pub mod openings;
pub mod projects;
pub mod prompts;
pub mod questions;
pub mod queue;
pub mod queue_order;
pub mod rankings;
pub mod repeats;
pub mod reviews;
pub mod rules;
pub mod run_events;
pub mod run_feed;
pub mod runs;
pub mod screening_grades;
pub mod screening_work;
pub mod screenings;
pub mod sessions;
pub mod sign_in_links;
pub mod simulated;
pub mod snapshot_selection;
pub mod snapshots;
pub mod submissions;
pub mod task_labels;
pub mod tasks;
pub mod texts;
pub mod writings;

/// Runs by status, for `/metrics`.
pub async fn queue_figures(db: &sqlx::PgPool) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"SELECT status, count(*) AS "n!" FROM runs GROUP BY status ORDER BY status"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.status, row.n)).collect())
}

/// Whether the database answers, for `/readyz`.
pub async fn answers(db: &sqlx::PgPool) -> sqlx::Result<()> {
    sqlx::query_scalar!("SELECT 1 AS one").fetch_one(db).await?;
    Ok(())
}
