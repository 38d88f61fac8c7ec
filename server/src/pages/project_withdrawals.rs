//! `/projects/{id}/withdrawals`: labelers whose labels are left out of the snapshots that are taken from now
//! on. Snapshots taken before stay the same bytes.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form;

use crate::auth::visitor::ProjectAdmin;
use crate::domain::audit::AuditAction;
use crate::domain::ids::{AccountId, ProjectId};
use crate::error::{AppError, AppResult};
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::label_withdrawals::{LabelWithdrawal, Said};
use crate::store::projects::Project;
use crate::web::page::{Page, render};

#[derive(Template)]
#[template(path = "projects/withdrawals.html")]
struct WithdrawalsPage {
    page: Page,
    project: Project,
    labelers: Vec<Said>,
    withdrawals: Vec<LabelWithdrawal>,
}

impl WithdrawalsPage {
    fn may_withdraw(&self) -> Vec<&Said> {
        let labelers = self.labelers.iter();
        labelers.filter(|own| !own.is_withdrawn).collect()
    }

    fn who(&self, withdrawal: &LabelWithdrawal) -> String {
        match withdrawal.is_own {
            true => self.page.t("withdrawals-own"),
            false => withdrawal.withdrawn_by.clone().unwrap_or_default(),
        }
    }
}

/// `GET /projects/{id}/withdrawals`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ProjectId>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let project = store::members::find_administered(&mut db, visitor.account_id, id).await?;
    let labelers = store::label_withdrawals::list_labelers(&mut db, id).await?;
    let withdrawals = store::label_withdrawals::list(&mut db, id).await?;
    drop(db);
    let page = page.titled("withdrawals-title");
    Ok(render(&WithdrawalsPage {
        page,
        project,
        labelers,
        withdrawals,
    })?
    .into_response())
}

/// The form that withdraws somebody's labels.
#[derive(Debug, serde::Deserialize)]
pub struct WithdrawalForm {
    account_id: AccountId,
}

/// `POST /projects/{id}/withdrawals`: leaves out what somebody said from now on.
pub async fn create(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ProjectId>,
    Form(form): Form<WithdrawalForm>,
) -> AppResult<Redirect> {
    let mut transaction = state.db.begin().await?;
    store::members::find_administered(&mut transaction, visitor.account_id, id).await?;
    let labelers = store::label_withdrawals::list_labelers(&mut transaction, id).await?;
    if !labelers.iter().any(|own| own.id == form.account_id) {
        return Err(AppError::NotFound("account"));
    }
    let by = visitor.account_id;
    if store::label_withdrawals::begin(&mut transaction, id, form.account_id, by).await? {
        let event = NewEvent::by(by, AuditAction::LabelsWithdrawn).within(id);
        let event = event.to("account", form.account_id.0);
        store::audit_events::record(&mut transaction, event).await?;
    }
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/projects/{id}/withdrawals")))
}

/// `POST /projects/{id}/withdrawals/{account_id}/end`: takes them in again. Not against the labeler's own
/// word: where they withdrew their consent, only they end it, by agreeing again.
pub async fn end(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    Path((id, account_id)): Path<(ProjectId, AccountId)>,
) -> AppResult<Redirect> {
    let mut transaction = state.db.begin().await?;
    store::members::find_administered(&mut transaction, visitor.account_id, id).await?;
    let withdrawals = store::label_withdrawals::list(&mut transaction, id).await?;
    let mut open = withdrawals.iter().filter(|own| own.ended_at.is_none());
    let open = open.find(|own| own.account_id == account_id);
    match open {
        None => return Err(AppError::NotFound("account")),
        Some(own) if own.is_own && account_id != visitor.account_id => {
            return Err(AppError::conflict("withdrawals-only-theirs"));
        }
        Some(_) => (),
    }
    let by = visitor.account_id;
    store::label_withdrawals::end(&mut transaction, id, account_id, by, false).await?;
    let event = NewEvent::by(by, AuditAction::LabelsRestored).within(id);
    let event = event.to("account", account_id.0);
    store::audit_events::record(&mut transaction, event).await?;
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/projects/{id}/withdrawals")))
}
