//! Who is asking. A middleware identifies the visitor once; extractors named after roles make a
//! handler's signature say who may call it, and cannot be forgotten in its body.

use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::auth::{session, token};
use crate::domain::ids::{AccountId, SessionId};
use crate::domain::role::Role;
use crate::error::{AppError, AppResult};
use crate::state::AppState;
use crate::store;
use crate::store::sessions::News;

/// A signed-in account.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// The account.
    pub account_id: AccountId,
    /// The session, unless a bearer token was used.
    pub session_id: Option<SessionId>,
    /// The name shown.
    pub name: String,
    /// The address signed in with.
    pub email: String,
    /// May rank and write demonstrations.
    pub is_labeler: bool,
    /// May import, invite and export.
    pub is_admin: bool,
    /// May administer some project: single ones, or as an admin all.
    pub is_project_admin: bool,
    /// May start runs.
    pub is_operator: bool,
    /// What waits for them; nothing where a bearer token was used.
    pub news: News,
}

impl Visitor {
    /// Whether they have any role; a candidate has none.
    pub fn has_role(&self) -> bool {
        self.is_labeler || self.is_project_admin || self.is_operator
    }

    /// A visitor from an account's row.
    pub fn new(account: &store::accounts::Account, session_id: Option<SessionId>) -> Self {
        Self {
            account_id: account.id,
            session_id,
            name: account.name.clone(),
            email: account.email.clone(),
            is_labeler: account.has(Role::Labeler),
            is_admin: account.has(Role::Admin),
            is_project_admin: account.has(Role::Admin) || account.is_project_admin,
            is_operator: account.has(Role::Operator),
            news: News::default(),
        }
    }
}

/// Middleware: finds the visitor by bearer token or session cookie and leaves it in the request.
///
/// # Errors
/// A bearer token that is unknown or revoked is an error, never an anonymous request.
pub async fn identify(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> AppResult<Response> {
    let proof = read_proof(
        request.headers(),
        request.uri().path(),
        state.config.is_https(),
    )?;
    let Some(visitor) = find_visitor(&state, proof).await? else {
        return Ok(next.run(request).await);
    };
    request.extensions_mut().insert(visitor.clone());
    let mut response = next.run(request).await;
    // The error page is rendered further out and greets the same visitor.
    response.extensions_mut().insert(visitor);
    Ok(response)
}

/// What the request offers as proof.
enum Proof {
    None,
    Bearer(String),
    Cookie(String),
}

fn read_proof(headers: &HeaderMap, path: &str, is_https: bool) -> AppResult<Proof> {
    if path.starts_with("/static/") {
        return Ok(Proof::None);
    }
    if let Some(value) = headers.get(AUTHORIZATION) {
        match read_bearer(value) {
            Some(secret) => return Ok(Proof::Bearer(secret.to_owned())),
            None if path.starts_with("/api/") => return Err(AppError::SignInRequired),
            // Of a proxy that asks for a password of its own, for example.
            None => (),
        }
    }
    let cookie = session::read_cookie(headers, session::cookie_name(is_https));
    Ok(cookie.map_or(Proof::None, |secret| Proof::Cookie(secret.to_owned())))
}

/// The token after `Bearer`, a word that has no case (RFC 9110, 11.1).
fn read_bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then_some(secret.trim_start())
}

async fn find_visitor(state: &AppState, proof: Proof) -> AppResult<Option<Visitor>> {
    match proof {
        Proof::None => Ok(None),
        Proof::Bearer(secret) => {
            let mut db = state.db.acquire().await?;
            let account = store::api_tokens::find_account(&mut db, &token::hash(&secret)).await?;
            let account = account.ok_or(AppError::SignInRequired)?;
            Ok(Some(Visitor::new(&account, None)))
        }
        Proof::Cookie(secret) => {
            let mut db = state.db.acquire().await?;
            let idle_hours = state.config.session_idle_hours;
            let found =
                store::sessions::find_and_touch(&mut db, &token::hash(&secret), idle_hours).await?;
            Ok(found.map(|(account, session_id, news)| Visitor {
                news,
                ..Visitor::new(&account, Some(session_id))
            }))
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AppError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or(AppError::SignInRequired)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Visitor {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, AppError> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// Defines an extractor that refuses visitors without a role.
macro_rules! role_extractor {
    ($(#[$meta:meta])* $name:ident, $flag:ident, $role:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name(pub Visitor);

        impl<S: Sync> FromRequestParts<S> for $name {
            type Rejection = AppError;
            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AppError> {
                let visitor = parts.extensions.get::<Visitor>().ok_or(AppError::SignInRequired)?;
                if visitor.$flag {
                    Ok(Self(visitor.clone()))
                } else {
                    Err(AppError::Forbidden($role))
                }
            }
        }
    };
}

role_extractor!(/// A visitor who may rank.
    Labeler, is_labeler, "labeler");
role_extractor!(/// A visitor who may import, invite and export.
    Admin, is_admin, "admin");
role_extractor!(/// A visitor who may administer some project. Which ones, the store says (`members::may_administer`).
    ProjectAdmin, is_project_admin, "admin");
role_extractor!(/// A visitor who may start runs.
    Operator, is_operator, "operator");
