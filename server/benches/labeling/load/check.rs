//! The queue's promises, asked of the database after the load: every acknowledged submission is
//! there once, no task is above its overlap, and nobody has a task twice.

use std::collections::HashSet;

use sqlx::PgPool;
use uuid::Uuid;

/// What the database says. All but the first two are 0 where the promises hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) acknowledged: usize,
    pub(crate) stored: usize,
    /// Acknowledged, and not there.
    pub(crate) lost: usize,
    /// Acknowledged for two loops, or with another number of rankings than one.
    pub(crate) doubled: i64,
    /// Rankings without a rating of each candidate and a comparison of each pair.
    pub(crate) halves: i64,
    pub(crate) tasks_above_overlap: i64,
    pub(crate) labelers_twice: i64,
}

impl Check {
    /// Whether every promise holds.
    pub(crate) fn holds(&self) -> bool {
        (self.lost, self.doubled, self.halves) == (0, 0, 0)
            && (self.tasks_above_overlap, self.labelers_twice) == (0, 0)
    }
}

/// Asks.
pub(crate) async fn check(db: &PgPool, acknowledged: &[Uuid]) -> sqlx::Result<Check> {
    let stored: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM assignments WHERE status = 'submitted'")
            .fetch_all(db)
            .await?;
    let stored: HashSet<&Uuid> = stored.iter().collect();
    let distinct: HashSet<&Uuid> = acknowledged.iter().collect();
    let count = async |statement: &'static str| -> sqlx::Result<i64> {
        sqlx::query_scalar(statement).fetch_one(db).await
    };
    let rankings = "SELECT count(*) FROM (SELECT FROM assignments a LEFT JOIN rankings r ON r.assignment_id = a.id
         WHERE a.status = 'submitted' GROUP BY a.id HAVING count(r.id) <> 1) AS wrong";
    let halves = "SELECT count(*) FROM (
             SELECT (SELECT count(*) FROM candidates k WHERE k.task_id = a.task_id) AS k,
                    (SELECT count(*) FROM ratings g WHERE g.ranking_id = r.id) AS ratings,
                    (SELECT count(*) FROM comparisons c WHERE c.ranking_id = r.id) AS comparisons
             FROM rankings r JOIN assignments a ON a.id = r.assignment_id) AS n
         WHERE ratings <> k OR comparisons <> k * (k - 1) / 2";
    let above = "SELECT count(*) FROM (SELECT FROM assignments a JOIN tasks t ON t.id = a.task_id
         WHERE a.place IS NOT NULL GROUP BY t.id HAVING count(*) > t.overlap) AS above";
    let twice = "SELECT count(*) FROM (SELECT FROM assignments GROUP BY task_id, labeler_id HAVING count(*) > 1) AS twice";
    Ok(Check {
        acknowledged: acknowledged.len(),
        stored: stored.len(),
        lost: distinct.iter().filter(|id| !stored.contains(*id)).count(),
        doubled: (acknowledged.len() - distinct.len()) as i64 + count(rankings).await?,
        halves: count(halves).await?,
        tasks_above_overlap: count(above).await?,
        labelers_twice: count(twice).await?,
    })
}
