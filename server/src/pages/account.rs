//! `/account`: one's own password, sessions and API tokens.

use std::net::SocketAddr;

use askama::Template;
use axum::extract::{ConnectInfo, Extension, Form, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;

use crate::auth::password;
use crate::auth::visitor::Visitor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::{ApiTokenId, SessionId};
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::pages::sign_in::client_address;
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::web::page::{Page, Theme, render};

#[derive(Template)]
#[template(path = "account/index.html")]
struct AccountPage {
    page: Page,
    email: String,
    is_labeler: bool,
    sessions: Vec<store::sessions::Session>,
    current: Option<SessionId>,
    tokens: Vec<store::api_tokens::ApiToken>,
    new_token: Option<String>,
    complaint: Option<String>,
}

/// `GET /account`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
) -> AppResult<Response> {
    show(&state, page, &visitor, None, None).await
}

async fn show(
    state: &AppState,
    page: Page,
    visitor: &Visitor,
    new_token: Option<String>,
    complaint: Option<String>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let status = if complaint.is_some() {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    let body = render(&AccountPage {
        page: page.titled("account-title"),
        email: visitor.email.clone(),
        is_labeler: visitor.is_labeler,
        sessions: store::sessions::list(&mut db, visitor.account_id).await?,
        current: visitor.session_id,
        tokens: store::api_tokens::list(&mut db, visitor.account_id).await?,
        new_token,
        complaint,
    })?;
    Ok((status, body).into_response())
}

/// The form that sets a password.
#[derive(serde::Deserialize)]
pub struct PasswordForm {
    #[serde(default)]
    current: String,
    password: String,
}

/// `POST /account/password`: needs the current password where there is one, and ends every other
/// session.
pub async fn set_password(
    State(state): State<AppState>,
    address: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    page: Page,
    visitor: Visitor,
    Form(form): Form<PasswordForm>,
) -> AppResult<Response> {
    // Whoever sits at somebody else's open session guesses no better than at the door.
    let address = client_address(&state, &headers, address);
    let own_try = state.throttle.begin(&visitor.email, address)?;
    let checked = fits(&state, &visitor, form.current).await;
    if !checked.inspect_err(|_| state.throttle.undecided(&own_try))? {
        let complaint = page.t("account-wrong-password");
        return show(&state, page, &visitor, None, Some(complaint)).await;
    }
    state.throttle.succeeded(own_try);
    if let Some(complaint) = password::complaint(&form.password) {
        let complaint = page.say(&complaint);
        return show(&state, page, &visitor, None, Some(complaint)).await;
    }
    let hash = password::hash(form.password).await?;
    let mut transaction = state.db.begin().await?;
    store::accounts::set_password(&mut transaction, visitor.account_id, &hash).await?;
    store::sessions::delete_all(&mut transaction, visitor.account_id).await?;
    let event = NewEvent::by(visitor.account_id, AuditAction::PasswordSet);
    store::audit_events::record(&mut transaction, event).await?;
    transaction.commit().await?;
    Ok(Redirect::to("/sign-in").into_response())
}

/// Whether this is the visitor's password, or they have none yet. No connection is held while it waits for its
/// turn.
async fn fits(state: &AppState, visitor: &Visitor, current: String) -> AppResult<bool> {
    let mut db = state.db.acquire().await?;
    let account = store::accounts::find(&mut db, visitor.account_id).await?;
    drop(db);
    let account = account.ok_or(AppError::SignInRequired)?;
    Ok(account.password_hash.is_none() || password::verify(current, account.password_hash).await?)
}

/// `POST /account/sessions/{id}/revoke`.
pub async fn revoke_session(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(id): Path<SessionId>,
) -> AppResult<Redirect> {
    let mut db = state.db.acquire().await?;
    let found = store::sessions::delete(&mut db, visitor.account_id, id).await?;
    if found {
        Ok(Redirect::to("/account"))
    } else {
        Err(AppError::NotFound("session"))
    }
}

/// The form that makes an API token.
#[derive(serde::Deserialize)]
pub struct TokenForm {
    label: String,
}

/// `POST /account/tokens`: the answer shows the secret, once.
pub async fn create_token(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
    Form(form): Form<TokenForm>,
) -> AppResult<Response> {
    let label = form.label.trim();
    if label.is_empty() || label.chars().count() > 100 {
        return Err(AppError::invalid(
            "label",
            Message::new("error-length").with("most", 100),
        ));
    }
    let mut db = state.db.begin().await?;
    let token = store::api_tokens::create(&mut db, visitor.account_id, label).await?;
    let event = NewEvent::by(visitor.account_id, AuditAction::TokenCreated);
    store::audit_events::record(&mut db, event.with(json!({"label": label}))).await?;
    db.commit().await?;
    show(
        &state,
        page,
        &visitor,
        Some(token.reveal().to_owned()),
        None,
    )
    .await
}

/// `POST /account/tokens/{id}/revoke`.
pub async fn revoke_token(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(id): Path<ApiTokenId>,
) -> AppResult<Redirect> {
    let mut db = state.db.begin().await?;
    if !store::api_tokens::revoke(&mut db, visitor.account_id, id).await? {
        return Err(AppError::NotFound("token"));
    }
    let event = NewEvent::by(visitor.account_id, AuditAction::TokenRevoked);
    store::audit_events::record(&mut db, event).await?;
    db.commit().await?;
    Ok(Redirect::to("/account"))
}
