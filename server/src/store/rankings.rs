//! Rankings with their ratings and comparisons: written together, never changed.

use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::assignment::AssignmentStatus;
use crate::domain::ids::{AssignmentId, RankingId};
use crate::domain::ranking::Ranking;
use crate::domain::task::Purpose;
use crate::store::adjudication;
use crate::store::assignments::Assignment;
use crate::store::submissions::{Existing, Head, Submitted};

/// Finds the ranking that a key made.
pub(super) async fn find_by_key(
    db: &mut PgConnection,
    assignment_id: AssignmentId,
    key: &str,
) -> sqlx::Result<Option<Existing>> {
    let row = sqlx::query!(
        r#"
        SELECT id, version, request_sha256
        FROM rankings
        WHERE assignment_id = $1 AND idempotency_key = $2
        "#,
        assignment_id.0,
        key
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Existing {
        submitted: Submitted {
            id: row.id,
            version: row.version,
        },
        request_sha256: row.request_sha256,
    }))
}

/// The newest version of an assignment's ranking; 0 before the first.
pub async fn newest_version(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"SELECT coalesce(max(version), 0) AS "version!" FROM rankings WHERE assignment_id = $1"#,
        id.0
    )
    .fetch_one(db)
    .await
}

/// Writes a ranking with its ratings and all its pairs. The caller holds the transaction.
pub(super) async fn insert(
    db: &mut PgConnection,
    assignment: &Assignment,
    head: &Head<'_>,
    ranking: &Ranking,
) -> sqlx::Result<Submitted> {
    let id = RankingId::new();
    sqlx::query!(
        r#"
        INSERT INTO rankings (id, assignment_id, version, idempotency_key, request_sha256, note, strength,
                              is_all_bad, is_untouched, active_ms, idle_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        "#,
        id.0,
        assignment.id.0,
        head.version,
        head.key,
        head.digest,
        ranking.note,
        ranking.strength,
        ranking.is_all_bad,
        ranking.is_untouched,
        head.time.active_ms,
        head.time.idle_ms
    )
    .execute(&mut *db)
    .await?;
    insert_ratings(db, assignment, id, ranking).await?;
    let pairs = ranking.comparisons();
    let preferred: Vec<i16> = pairs.iter().map(|pair| pair.preferred).collect();
    let other: Vec<i16> = pairs.iter().map(|pair| pair.other).collect();
    let ties: Vec<bool> = pairs.iter().map(|pair| pair.is_tie).collect();
    sqlx::query!(
        r#"
        INSERT INTO comparisons (ranking_id, preferred_id, other_id, is_tie)
        SELECT $1, a.completion_id, b.completion_id, pair.is_tie
        FROM unnest($3::SMALLINT[], $4::SMALLINT[], $5::BOOLEAN[]) AS pair (preferred, other, is_tie)
        JOIN candidates a ON a.task_id = $2 AND a.slot = pair.preferred
        JOIN candidates b ON b.task_id = $2 AND b.slot = pair.other
        "#,
        id.0,
        assignment.task_id.0,
        &preferred,
        &other,
        &ties
    )
    .execute(&mut *db)
    .await?;
    // A late label is a second one of a task that is given to one labeler.
    let has_others = assignment.overlap > 1 || assignment.status == AssignmentStatus::Expired;
    if has_others && assignment.purpose == Purpose::Label {
        adjudication::measure(db, assignment.task_id).await?;
    }
    Ok(Submitted {
        id: id.0,
        version: head.version,
    })
}

/// The judgement of each candidate, in one statement.
async fn insert_ratings(
    db: &mut PgConnection,
    assignment: &Assignment,
    id: RankingId,
    ranking: &Ranking,
) -> sqlx::Result<()> {
    let items = &ranking.judgements;
    let slots: Vec<i16> = items.iter().map(|item| item.slot).collect();
    let ranks: Vec<Option<i16>> = items.iter().map(|item| item.rank).collect();
    let ratings: Vec<Option<i16>> = items.iter().map(|item| item.rating).collect();
    let json = |value: &dyn Fn(&crate::domain::ranking::Judgement) -> Value| -> Vec<Value> {
        items.iter().map(value).collect()
    };
    let scales = json(&|item| serde_json::json!(item.scales));
    let flags = json(&|item| serde_json::json!(item.flags));
    let notes: Vec<String> = items.iter().map(|item| item.note.clone()).collect();
    sqlx::query!(
        r#"
        INSERT INTO ratings (ranking_id, completion_id, slot, rank, overall, scales, flags, note)
        SELECT $1, c.completion_id, c.slot, n.rank, n.overall, n.scales, n.flags, n.note
        FROM unnest($3::SMALLINT[], $4::SMALLINT[], $5::SMALLINT[], $6::JSONB[], $7::JSONB[], $8::TEXT[])
             AS n (slot, rank, overall, scales, flags, note)
        JOIN candidates c ON c.task_id = $2 AND c.slot = n.slot
        "#,
        id.0,
        assignment.task_id.0,
        &slots,
        &ranks as &[Option<i16>],
        &ratings as &[Option<i16>],
        &scales,
        &flags,
        &notes
    )
    .execute(db)
    .await?;
    Ok(())
}
