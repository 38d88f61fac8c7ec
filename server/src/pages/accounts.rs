//! `/accounts`: admins invite people, give roles and switch accounts off.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form;
use serde_json::json;

use crate::auth::visitor::Admin;
use crate::domain::audit::AuditAction;
use crate::domain::ids::AccountId;
use crate::domain::role::Role;
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::web::page::{Page, render};

#[derive(Template)]
#[template(path = "accounts/index.html")]
struct AccountsPage {
    page: Page,
    accounts: Vec<store::accounts::Account>,
    link: Option<(String, String)>,
    errors: Vec<FieldError>,
    form: AccountForm,
}

/// The form that invites somebody.
#[derive(Debug, Default, serde::Deserialize)]
pub struct AccountForm {
    #[serde(default)]
    email: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    roles: Vec<String>,
}

impl AccountForm {
    fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|word| word == role)
    }
}

/// `GET /accounts`.
pub async fn index(State(state): State<AppState>, page: Page, _: Admin) -> AppResult<Response> {
    show(&state, page, None, Vec::new(), AccountForm::default()).await
}

async fn show(
    state: &AppState,
    page: Page,
    link: Option<(String, String)>,
    errors: Vec<FieldError>,
    form: AccountForm,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let accounts = store::accounts::list(&mut db).await?;
    let status = if errors.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let page = page.titled("accounts-title");
    Ok((
        status,
        render(&AccountsPage {
            page,
            accounts,
            link,
            errors,
            form,
        })?,
    )
        .into_response())
}

fn parse_roles(words: &[String]) -> AppResult<Vec<Role>> {
    words
        .iter()
        .map(|word| {
            word.parse().map_err(|_: String| {
                AppError::invalid("roles", Message::new("error-unknown-choice"))
            })
        })
        .collect()
}

/// `POST /accounts`: makes the account and shows its invite link, once.
pub async fn create(
    State(state): State<AppState>,
    page: Page,
    Admin(admin): Admin,
    Form(form): Form<AccountForm>,
) -> AppResult<Response> {
    let roles = parse_roles(&form.roles)?;
    if roles.is_empty() {
        let error = FieldError::new("roles", Message::new("error-choose-role"));
        return show(&state, page, None, vec![error], form).await;
    }
    let mut transaction = state.db.begin().await?;
    let made =
        store::accounts::insert(&mut transaction, &form.email, &form.name, &roles, false).await;
    let id = match made {
        Ok(id) => id,
        Err(AppError::Invalid(errors)) => return show(&state, page, None, errors, form).await,
        Err(error) => return Err(error),
    };
    let event = NewEvent::by(admin.account_id, AuditAction::AccountCreated);
    let event = event.to("account", id.0).with(json!({"roles": roles}));
    store::audit_events::record(&mut transaction, event).await?;
    let link = make_link(&state, &mut transaction, id, admin.account_id).await?;
    transaction.commit().await?;
    show(
        &state,
        page,
        Some((form.email, link)),
        Vec::new(),
        AccountForm::default(),
    )
    .await
}

/// Makes a sign-in link for an account and notes that it was made, in the caller's transaction.
pub(crate) async fn make_link(
    state: &AppState,
    db: &mut sqlx::PgConnection,
    id: AccountId,
    by: AccountId,
) -> AppResult<String> {
    let hours = store::sign_in_links::INVITE_HOURS;
    let token = store::sign_in_links::create(&mut *db, id, Some(by), hours).await?;
    let event = NewEvent::by(by, AuditAction::LinkCreated).to("account", id.0);
    store::audit_events::record(db, event).await?;
    Ok(format!(
        "{}/sign-in/{}",
        state.config.public_url(),
        token.reveal()
    ))
}

/// `POST /accounts/{id}/link`: a fresh single-use link, for somebody who lost the way in.
pub async fn link(
    State(state): State<AppState>,
    page: Page,
    Admin(admin): Admin,
    Path(id): Path<AccountId>,
) -> AppResult<Response> {
    let mut db = state.db.begin().await?;
    let account = store::accounts::find(&mut db, id)
        .await?
        .ok_or(AppError::NotFound("account"))?;
    if account.is_simulated {
        return Err(AppError::conflict("error-simulated-sign-in"));
    }
    let link = make_link(&state, &mut db, id, admin.account_id).await?;
    db.commit().await?;
    show(
        &state,
        page,
        Some((account.email, link)),
        Vec::new(),
        AccountForm::default(),
    )
    .await
}

/// `POST /accounts/{id}/roles`.
pub async fn set_roles(
    State(state): State<AppState>,
    Admin(admin): Admin,
    Path(id): Path<AccountId>,
    Form(form): Form<AccountForm>,
) -> AppResult<Redirect> {
    let roles = parse_roles(&form.roles)?;
    if id == admin.account_id && !roles.contains(&Role::Admin) {
        return Err(AppError::invalid(
            "roles",
            Message::new("error-own-admin-role"),
        ));
    }
    let mut transaction = state.db.begin().await?;
    let old = store::accounts::find(&mut transaction, id).await?;
    let old = old.ok_or(AppError::NotFound("account"))?;
    store::accounts::set_roles(&mut transaction, id, &roles).await?;
    let event = NewEvent::by(admin.account_id, AuditAction::AccountRoles).to("account", id.0);
    let event = event.with(json!({"roles": {"from": old.roles, "to": roles}}));
    store::audit_events::record(&mut transaction, event).await?;
    transaction.commit().await?;
    Ok(Redirect::to("/accounts"))
}

/// The form that switches an account off or on.
#[derive(serde::Deserialize)]
pub struct DisabledForm {
    disabled: bool,
}

/// `POST /accounts/{id}/disabled`.
pub async fn set_disabled(
    State(state): State<AppState>,
    Admin(admin): Admin,
    Path(id): Path<AccountId>,
    Form(form): Form<DisabledForm>,
) -> AppResult<Redirect> {
    if id == admin.account_id {
        return Err(AppError::conflict("error-own-account"));
    }
    let mut transaction = state.db.begin().await?;
    if !store::accounts::set_disabled(&mut transaction, id, form.disabled).await? {
        return Err(AppError::NotFound("account"));
    }
    let action = match form.disabled {
        true => AuditAction::AccountOff,
        false => AuditAction::AccountOn,
    };
    let event = NewEvent::by(admin.account_id, action).to("account", id.0);
    store::audit_events::record(&mut transaction, event).await?;
    transaction.commit().await?;
    Ok(Redirect::to("/accounts"))
}
