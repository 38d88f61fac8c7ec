//! What the home page counts. Every query is bounded: a page that opens each day has no time to count a
//! whole queue or a whole history.

use chrono::NaiveDate;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::domain::gold::{Facts, Tally};
use crate::domain::ids::{AccountId, ProjectId};
use crate::error::AppResult;
use crate::store::tasks::{MOST_COUNTED, shown_waiting};

/// Days that a labeler's home looks back, today included.
pub const DAYS: i32 = 14;

/// Most rows of anything that the home of admins and operators counts.
pub const MOST_ROWS: i64 = 100_000;

/// Last submissions that pace is measured over.
const PACE_OVER: i64 = 500;

/// Last submissions among which gold tasks are looked for.
const GOLD_AMONG: i64 = 2000;

/// Tasks that wait for a labeler in a project.
#[derive(Debug)]
pub struct Waiting {
    /// The project.
    pub project_id: ProjectId,
    /// Its name.
    pub project: String,
    /// What is done in them.
    pub kind: String,
    /// How many, counted up to [`MOST_COUNTED`] of a project. It goes down by one with each lease, as
    /// [`Progress`](super::tasks::Progress) says.
    pub n: i64,
}

/// What waits for a labeler, by project and kind.
pub async fn list_waiting(
    db: &mut PgConnection,
    labeler_id: AccountId,
) -> sqlx::Result<Vec<Waiting>> {
    let counted = sqlx::query!(
        r#"
        SELECT p.id AS "project_id: ProjectId", p.name AS project, w.kind AS "kind!", count(*) AS "n!",
               (SELECT count(*) FROM assignments a JOIN tasks t ON t.id = a.task_id
                WHERE a.labeler_id = $1 AND a.status <> 'expired' AND t.purpose IN ('gold', 'repeat')
                  AND t.project_id = p.id AND t.kind = w.kind
                  AND a.leased_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC') AS "n_unseen!"
        FROM projects p
        LEFT JOIN members m ON m.project_id = p.id AND m.account_id = $1
        CROSS JOIN LATERAL (
            SELECT t.kind
            FROM waiting_tasks(p.id) t
            WHERE (t.language IS NULL OR coalesce(cardinality(m.languages), 0) = 0
                   OR t.language = ANY (m.languages))
              AND NOT EXISTS (SELECT 1 FROM assignments a
                              WHERE a.task_id = t.id AND a.labeler_id = $1 AND a.status <> 'expired'
                                AND NOT (a.status = 'leased' AND a.lease_until <= now()))
            LIMIT $2
        ) AS w
        WHERE p.archived_at IS NULL AND (p.is_open OR m.account_id IS NOT NULL) AND NOT has_refused($1, p.id)
        GROUP BY p.id, w.kind
        ORDER BY p.created_at, p.id, w.kind
        "#,
        labeler_id.0,
        MOST_COUNTED
    )
    .fetch_all(db)
    .await?;
    let of_project = |id: ProjectId| -> i64 {
        let own = counted.iter().filter(|row| row.project_id == id);
        own.map(|row| row.n).sum()
    };
    let shown = counted.iter().map(|row| Waiting {
        project_id: row.project_id,
        project: row.project.clone(),
        kind: row.kind.clone(),
        n: match of_project(row.project_id) {
            // Not counted to its end, so no lease makes it less.
            MOST_COUNTED => row.n,
            _ => shown_waiting(row.n, row.n_unseen),
        },
    });
    Ok(shown.collect())
}

/// One day of a labeler's work, UTC. A task counts to the day on which work on it ended, with all the time
/// spent on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// The day.
    pub day: NaiveDate,
    /// Submissions.
    pub submitted: i64,
    /// Milliseconds active, as the browser counted.
    pub active_ms: i64,
    /// Milliseconds open but not active.
    pub idle_ms: i64,
    /// Milliseconds between taking a task and ending it, or the end of its lease where that came first.
    /// The next task is taken ahead, so these may run at once.
    pub leased_ms: i64,
}

/// The last [`DAYS`] days, oldest first, today last; days without work too. Work in progress counts to
/// today. What was done in a screening is a test, and no work.
pub async fn list_days(db: &mut PgConnection, labeler_id: AccountId) -> sqlx::Result<Vec<Day>> {
    sqlx::query_as!(
        Day,
        r#"
        WITH today AS (
            SELECT (now() AT TIME ZONE 'UTC')::DATE AS today
        ), work AS (
            SELECT a.ended_at, TRUE AS is_submitted, a.active_ms, a.idle_ms, a.leased_at, a.lease_until
            FROM assignments a
            JOIN tasks t ON t.id = a.task_id AND t.purpose <> 'screening'
            WHERE a.labeler_id = $1 AND a.status = 'submitted' AND NOT a.is_adjudication
              AND a.ended_at >= (SELECT today - ($2 - 1) FROM today)::TIMESTAMP AT TIME ZONE 'UTC'
            UNION ALL
            SELECT coalesce(a.ended_at, now()), FALSE, a.active_ms, a.idle_ms, a.leased_at, a.lease_until
            FROM assignments a
            JOIN tasks t ON t.id = a.task_id AND t.purpose <> 'screening'
            WHERE a.labeler_id = $1 AND a.status IN ('leased', 'skipped', 'expired')
              AND coalesce(a.ended_at, now()) >= (SELECT today - ($2 - 1) FROM today)::TIMESTAMP AT TIME ZONE 'UTC'
        )
        SELECT d.day::DATE AS "day!",
               count(*) FILTER (WHERE w.is_submitted) AS "submitted!",
               coalesce(sum(w.active_ms), 0)::BIGINT AS "active_ms!",
               coalesce(sum(w.idle_ms), 0)::BIGINT AS "idle_ms!",
               coalesce(sum(greatest(0, 1000 * extract(epoch FROM
                   least(w.ended_at, w.lease_until) - w.leased_at))), 0)::BIGINT AS "leased_ms!"
        FROM today
        CROSS JOIN LATERAL generate_series(today.today - ($2 - 1), today.today, interval '1 day') AS d (day)
        LEFT JOIN work w ON (w.ended_at AT TIME ZONE 'UTC')::DATE = d.day::DATE
        GROUP BY d.day
        ORDER BY d.day
        "#,
        labeler_id.0,
        DAYS
    )
    .fetch_all(db)
    .await
}

/// How fast a labeler works.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// What is done in the tasks.
    pub kind: String,
    /// Tasks that it is measured over; those without a counted time (no script ran) are left out.
    pub n: i64,
    /// Median of the active time, milliseconds.
    pub median_ms: f64,
}

/// The median active time of a labeler's last tasks, by kind.
pub async fn list_paces(db: &mut PgConnection, labeler_id: AccountId) -> sqlx::Result<Vec<Pace>> {
    sqlx::query_as!(
        Pace,
        r#"
        SELECT t.kind, count(*) AS "n!",
               percentile_cont(0.5) WITHIN GROUP (ORDER BY w.active_ms::DOUBLE PRECISION) AS "median_ms!"
        FROM (
            SELECT a.task_id, a.active_ms
            FROM assignments a
            WHERE a.labeler_id = $1 AND a.status = 'submitted' AND NOT a.is_adjudication
            ORDER BY a.ended_at DESC
            LIMIT $2
        ) AS w
        JOIN tasks t ON t.id = w.task_id AND t.purpose <> 'screening'
        WHERE w.active_ms > 0
        GROUP BY t.kind
        ORDER BY t.kind
        "#,
        labeler_id.0,
        PACE_OVER
    )
    .fetch_all(db)
    .await
}

/// How far a labeler agrees with what is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OwnGold {
    /// Gold tasks that count: those with a known pair that the labeler ranked.
    pub n_tasks: usize,
    /// Their pairs of candidates.
    pub ranks: Tally,
}

/// How far a labeler's rankings of gold tasks agree with what is known. Today's are left out: a figure that
/// moved with each task would tell which tasks are gold. Of each ranking the first version counts.
///
/// # Errors
/// When a stored answer cannot be read.
pub async fn find_gold(db: &mut PgConnection, labeler_id: AccountId) -> AppResult<OwnGold> {
    let rows = sqlx::query!(
        r#"
        SELECT g.answer, c.said AS "said!: Json<Vec<Facts>>"
        FROM (
            SELECT a.id, a.task_id
            FROM assignments a
            WHERE a.labeler_id = $1 AND a.status = 'submitted' AND NOT a.is_adjudication
              AND a.ended_at < date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
            ORDER BY a.ended_at DESC
            LIMIT $2
        ) AS w
        JOIN tasks t ON t.id = w.task_id AND t.purpose = 'gold'
        CROSS JOIN LATERAL (
            SELECT answer FROM gold_answers WHERE task_id = t.id ORDER BY version DESC LIMIT 1
        ) AS g
        CROSS JOIN LATERAL (
            SELECT id FROM rankings WHERE assignment_id = w.id AND version = 1
        ) AS k
        CROSS JOIN LATERAL (
            SELECT jsonb_agg(jsonb_build_object('slot', r.slot, 'rank', r.rank)) AS said
            FROM ratings r
            WHERE r.ranking_id = k.id AND r.rank IS NOT NULL
            HAVING count(*) > 1
        ) AS c
        "#,
        labeler_id.0,
        GOLD_AMONG
    )
    .fetch_all(db)
    .await?;
    let mut own = OwnGold::default();
    for row in rows {
        let ranks = super::gold::read(row.answer)?.score(&row.said.0).ranks;
        own.n_tasks += usize::from(ranks.n > 0);
        own.ranks = own.ranks.plus(ranks);
    }
    Ok(own)
}

/// What the home page counts for admins and operators, each up to [`MOST_ROWS`].
#[derive(Debug)]
pub struct Figures {
    /// Prompts of the projects that this account may administer.
    pub prompts: i64,
    /// Submissions by people in them.
    pub submissions: i64,
    /// Runs queued or running.
    pub active_runs: i64,
    /// All checkpoints.
    pub checkpoints: i64,
}

/// Counts what there is.
pub async fn figures(db: &mut PgConnection, account_id: AccountId) -> sqlx::Result<Figures> {
    sqlx::query_as!(
        Figures,
        r#"
        WITH own AS MATERIALIZED (
            SELECT id FROM projects WHERE may_administer($1, id)
        )
        SELECT
            (SELECT count(*) FROM (
                SELECT 1 FROM prompts WHERE project_id IN (SELECT id FROM own) LIMIT $2) AS p) AS "prompts!",
            (SELECT count(*) FROM (
                SELECT 1
                FROM assignments a
                JOIN tasks t ON t.id = a.task_id
                JOIN accounts u ON u.id = a.labeler_id
                WHERE a.status = 'submitted' AND NOT u.is_simulated AND t.project_id IN (SELECT id FROM own)
                LIMIT $2) AS s) AS "submissions!",
            (SELECT count(*) FROM runs WHERE status IN ('queued', 'running')) AS "active_runs!",
            (SELECT count(*) FROM checkpoints) AS "checkpoints!"
        "#,
        account_id.0,
        MOST_ROWS
    )
    .fetch_one(db)
    .await
}
