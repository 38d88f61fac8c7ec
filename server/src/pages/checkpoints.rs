//! `/checkpoints`: which models there are, and where each came from.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

use crate::auth::visitor::Operator;
use crate::domain::ids::{CheckpointId, SnapshotId};
use crate::error::{AppError, AppResult};
use crate::state::AppState;
use crate::store;
use crate::store::checkpoints::Checkpoint;
use crate::store::runs::{Run, SnapshotChoice};
use crate::web::page::{Page, render};

#[derive(Template)]
#[template(path = "checkpoints/index.html")]
struct CheckpointsPage {
    page: Page,
    checkpoints: Vec<Checkpoint>,
}

impl CheckpointsPage {
    fn kind_text(&self, kind: &str) -> String {
        self.page.t(&format!("checkpoints-kind-{kind}"))
    }
}

/// `GET /checkpoints`.
pub async fn index(State(state): State<AppState>, page: Page, _: Operator) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let checkpoints = store::checkpoints::list(&mut db).await?;
    let page = page.titled("checkpoints-title");
    Ok(render(&CheckpointsPage { page, checkpoints })?.into_response())
}

#[derive(Template)]
#[template(path = "checkpoints/show.html")]
struct CheckpointPage {
    page: Page,
    checkpoint: Checkpoint,
    /// From the parent upwards.
    ancestors: Vec<Checkpoint>,
    children: Vec<Checkpoint>,
    run: Option<Run>,
    reward: Option<Checkpoint>,
    gold: Option<Checkpoint>,
    snapshot: Option<SnapshotChoice>,
    texts: Option<SnapshotChoice>,
    demonstrations: Option<SnapshotChoice>,
}

impl CheckpointPage {
    fn kind_text(&self, kind: &str) -> String {
        self.page.t(&format!("checkpoints-kind-{kind}"))
    }
}

/// `GET /checkpoints/{id}`.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    _: Operator,
    Path(id): Path<CheckpointId>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let checkpoint = store::checkpoints::find(&mut db, id)
        .await?
        .ok_or(AppError::NotFound("checkpoint"))?;
    let mut ancestors = Vec::new();
    let mut next = checkpoint.parent_id;
    // A parent is always older than its child, so this ends.
    while let Some(parent) = next {
        let Some(parent) = store::checkpoints::find(&mut db, parent).await? else {
            break;
        };
        next = parent.parent_id;
        ancestors.push(parent);
    }
    let run = match checkpoint.run_id {
        Some(run_id) => store::runs::find(&mut db, run_id).await?,
        None => None,
    };
    let reward = run.as_ref().and_then(|run| run.reward_checkpoint_id);
    let reward = store::checkpoints::find_optional(&mut db, reward).await?;
    let gold = run.as_ref().and_then(|run| run.gold_checkpoint_id);
    let gold = store::checkpoints::find_optional(&mut db, gold).await?;
    let snapshots = store::runs::list_snapshots(&mut db).await?;
    let read = |id: fn(&Run) -> Option<SnapshotId>| {
        let id = run.as_ref().and_then(id)?;
        snapshots.iter().find(|one| one.id == id).cloned()
    };
    let children = store::checkpoints::list_children(&mut db, id).await?;
    let page = Page {
        title: checkpoint.name.clone(),
        ..page
    };
    let body = CheckpointPage {
        page,
        checkpoint,
        ancestors,
        children,
        reward,
        gold,
        snapshot: read(|run| run.snapshot_id),
        texts: read(|run| run.texts_snapshot_id),
        demonstrations: read(|run| run.demonstrations_snapshot_id),
        run,
    };
    Ok(render(&body)?.into_response())
}
