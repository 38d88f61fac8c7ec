//! Rankings with their ratings, from which their comparisons follow: written together, never changed. The statements
//! are functions of the database (`migrations/20261127100000_lease_and_submit_in_one_call.sql`).

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::domain::ids::{AssignmentId, RankingId};
use crate::domain::ranking::Ranking;
use crate::error::AppResult;
use crate::store::submissions::{CORRECTABLE, Head, Request, Stands, Submitted, read_outcome};

/// Submits a ranking: one statement, which ends the assignment and writes the ranking with its ratings, or
/// nothing. None when the form has changed since the ranking was read.
///
/// # Errors
/// As [`submit`](super::submissions::submit).
pub(super) async fn submit(
    db: &mut PgConnection,
    request: &Request<'_>,
    ranking: &Ranking,
) -> AppResult<Option<Stands>> {
    let columns = Columns::of(ranking);
    let time = request.time();
    let row = sqlx::query!(
        r#"
        SELECT outcome AS "outcome!", said, version
        FROM submit_ranking($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                            $20, $21, $22)
        "#,
        request.assignment.id.0,
        request.labeler_id.0,
        request.new.idempotency_key,
        request.digest,
        request.new.replaces,
        request.new.revision,
        request.assignment.form_version,
        request.content,
        time.active_ms,
        time.idle_ms,
        CORRECTABLE,
        RankingId::new().0,
        ranking.note,
        ranking.strength,
        ranking.is_all_bad,
        ranking.is_untouched,
        &columns.slots,
        &columns.ranks as &[Option<i16>],
        &columns.ratings as &[Option<i16>],
        &columns.scales,
        &columns.flags,
        &columns.notes
    )
    .fetch_one(db)
    .await?;
    read_outcome(&row.outcome, row.said, row.version)
}

/// Writes a ranking with its ratings. The caller holds the transaction.
pub(super) async fn insert(
    db: &mut PgConnection,
    assignment_id: AssignmentId,
    head: &Head<'_>,
    ranking: &Ranking,
) -> sqlx::Result<Submitted> {
    let id = RankingId::new();
    let columns = Columns::of(ranking);
    sqlx::query!(
        "SELECT write_ranking($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        id.0,
        assignment_id.0,
        head.version,
        head.key,
        head.digest,
        ranking.note,
        ranking.strength,
        ranking.is_all_bad,
        ranking.is_untouched,
        head.time.active_ms,
        head.time.idle_ms,
        &columns.slots,
        &columns.ranks as &[Option<i16>],
        &columns.ratings as &[Option<i16>],
        &columns.scales,
        &columns.flags,
        &columns.notes
    )
    .execute(db)
    .await?;
    Ok(Submitted {
        id: id.0,
        version: head.version,
    })
}

/// The judgements of a ranking, column by column: one entry for each candidate.
struct Columns {
    slots: Vec<i16>,
    ranks: Vec<Option<i16>>,
    ratings: Vec<Option<i16>>,
    scales: Vec<Value>,
    flags: Vec<Value>,
    notes: Vec<String>,
}

impl Columns {
    fn of(ranking: &Ranking) -> Self {
        let items = &ranking.judgements;
        Self {
            slots: items.iter().map(|item| item.slot).collect(),
            ranks: items.iter().map(|item| item.rank).collect(),
            ratings: items.iter().map(|item| item.rating).collect(),
            scales: items.iter().map(|item| json!(item.scales)).collect(),
            flags: items.iter().map(|item| json!(item.flags)).collect(),
            notes: items.iter().map(|item| item.note.clone()).collect(),
        }
    }
}
