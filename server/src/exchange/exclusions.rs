//! What stays out of a snapshot, found in the transaction that takes it: withdrawn labels, labelers and tasks
//! that its filters leave out.

use std::pin::pin;

use futures_util::StreamExt;
use sqlx::PgConnection;

use crate::domain::agreement::Agreement;
use crate::domain::ids::AccountId;
use crate::domain::labels::Filter;
use crate::domain::snapshot::{Selection, SnapshotKind};
use crate::domain::snapshot_filters::{Exclusions, Sieve};
use crate::error::AppResult;
use crate::store::labels::MOST;
use crate::store::{label_withdrawals, labels, snapshot_selection};

/// What the selection leaves out. Labelers come first: agreement on a task is that of those who are left.
///
/// # Errors
/// When the database does not answer.
pub async fn find(db: &mut PgConnection, selection: &Selection) -> AppResult<Exclusions> {
    let filters = &selection.filters;
    let mut found = Exclusions::default();
    let withdrawn = label_withdrawals::list_open(db, selection.project_id).await?;
    found.left_out.labelers_withdrawn = add(&mut found.labelers, &withdrawn);
    found.left_out.labelers_named = add(&mut found.labelers, &filters.without_labelers);
    if filters.needs_figures() {
        let which = Filter {
            with_simulated: selection.include_simulated,
            ..Filter::default()
        };
        let said = labels::list(db, selection.project_id, &which, MOST).await?;
        // Seconds of work: not beside requests. How fast somebody worked does not matter here.
        let figures = tokio::task::spawn_blocking(move || Agreement::of(&said, 0)).await;
        let figures = figures.map_err(anyhow::Error::from)?;
        let (by_gold, by_quality) = filters.poor_labelers(&figures);
        found.left_out.labelers_gold = add(&mut found.labelers, &by_gold);
        found.left_out.labelers_quality = add(&mut found.labelers, &by_quality);
    }
    if selection.kind == SnapshotKind::Rankings
        && let Some(mut sieve) = Sieve::new(filters)
    {
        let without = found.labelers.clone();
        let mut rankings = pin!(snapshot_selection::stream_task_rankings(
            db, selection, &without
        ));
        while let Some(ranking) = rankings.next().await {
            let ranking = ranking?;
            sieve.see(ranking.task_id, ranking.ranks, &mut found);
        }
        sieve.end(&mut found);
    }
    Ok(found)
}

/// Adds those who are not there yet; returns how many.
fn add(labelers: &mut Vec<AccountId>, more: &[AccountId]) -> i64 {
    let mut n = 0;
    for id in more {
        if !labelers.contains(id) {
            labelers.push(*id);
            n += 1;
        }
    }
    n
}
