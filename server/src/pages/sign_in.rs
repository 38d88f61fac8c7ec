//! Signing in by password or by a single-use link, and signing out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use askama::Template;
use axum::Extension;
use axum::extract::{ConnectInfo, Form, Path, State};
use axum::http::header::{SET_COOKIE, USER_AGENT};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde_json::json;
use sqlx::PgConnection;

use crate::auth::token::Token;
use crate::auth::visitor::Visitor;
use crate::auth::{password, session};
use crate::domain::audit::AuditAction;
use crate::domain::ids::AccountId;
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::state::AppState;
use crate::store;
use crate::store::accounts::Account;
use crate::store::audit_events::NewEvent;
use crate::web::page::{Page, render};

/// What a link is that does not work.
const NO_LINK: AppError = AppError::NotFound("sign-in-link");

#[derive(Template)]
#[template(path = "sign_in/index.html")]
struct SignInPage {
    page: Page,
    email: String,
    failed: bool,
}

#[derive(Template)]
#[template(path = "sign_in/link.html")]
struct LinkPage {
    page: Page,
    secret: String,
    name: String,
    email: String,
    has_password: bool,
    complaint: Option<Message>,
}

/// `GET /sign-in`.
pub async fn index(page: Page) -> AppResult<Response> {
    if page.visitor.is_some() {
        return Ok(Redirect::to("/").into_response());
    }
    let page = page.titled("sign-in-title");
    Ok(render(&SignInPage {
        page,
        email: String::new(),
        failed: false,
    })?
    .into_response())
}

/// The sign-in form.
#[derive(serde::Deserialize)]
pub struct SignInForm {
    email: String,
    password: String,
}

/// `POST /sign-in`. Unknown address and wrong password look and take the same.
pub async fn create(
    State(state): State<AppState>,
    address: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    page: Page,
    Form(form): Form<SignInForm>,
) -> AppResult<Response> {
    let email = store::accounts::normalise_email(&form.email);
    // No account has such an address, and what is counted is kept in memory.
    if email.len() > store::accounts::LONGEST_EMAIL {
        return failed(page, String::new());
    }
    let address = client_address(&state, &headers, address);
    let own_try = state.throttle.begin(&email, address)?;
    let checked = check(&state, &email, form.password).await;
    let (account, fits) = checked.inspect_err(|_| state.throttle.undecided(&own_try))?;
    match account {
        Some(account) if fits => {
            state.throttle.succeeded(own_try);
            let mut transaction = state.db.begin().await?;
            let id = account.id;
            let response = open_session(&state, &mut transaction, id, &headers, "password").await?;
            transaction.commit().await?;
            Ok(response)
        }
        account => {
            let mut db = state.db.acquire().await?;
            note_failure(&mut db, account.map(|account| account.id)).await?;
            failed(page, form.email)
        }
    }
}

/// The account that an address belongs to, unless it is switched off, and whether the password fits. No
/// connection is held while the password waits for its turn: whoever tries many would take them all, and keep
/// everybody from working.
async fn check(
    state: &AppState,
    email: &str,
    password: String,
) -> AppResult<(Option<Account>, bool)> {
    let mut db = state.db.acquire().await?;
    let account = store::accounts::find_by_email(&mut db, email).await?;
    drop(db);
    let account = account.filter(|account| account.disabled_at.is_none());
    let stored = account
        .as_ref()
        .and_then(|account| account.password_hash.clone());
    let fits = password.len() <= password::LONGEST && password::verify(password, stored).await?;
    Ok((account, fits))
}

/// Notes that somebody typed an address and a password that do not fit. Not what they typed: it may be a
/// password in the wrong field.
async fn note_failure(db: &mut PgConnection, account_id: Option<AccountId>) -> sqlx::Result<()> {
    let event = match account_id {
        Some(id) => NewEvent::by(id, AuditAction::SignInFailed),
        None => NewEvent::by_nobody(AuditAction::SignInFailed),
    };
    store::audit_events::record(db, event).await
}

/// The form again, whatever was wrong.
fn failed(page: Page, email: String) -> AppResult<Response> {
    let page = page.titled("sign-in-title");
    let body = render(&SignInPage {
        page,
        email,
        failed: true,
    })?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, body).into_response())
}

/// `GET /sign-in/{token}`: shows whom the link is for. Looking does not spend it, since mail
/// programs open links by themselves.
pub async fn link(
    State(state): State<AppState>,
    page: Page,
    Path(secret): Path<String>,
) -> AppResult<Html<String>> {
    link_page(&state, page, secret, None).await
}

async fn link_page(
    state: &AppState,
    page: Page,
    secret: String,
    complaint: Option<Message>,
) -> AppResult<Html<String>> {
    let mut db = state.db.acquire().await?;
    let account = match store::sign_in_links::find(&mut db, &secret).await? {
        Some(id) => store::accounts::find(&mut db, id).await?,
        None => None,
    };
    let account = account.ok_or(NO_LINK)?;
    render(&LinkPage {
        page: page.titled("sign-in-link-title"),
        secret,
        name: account.name,
        email: account.email,
        has_password: account.password_hash.is_some(),
        complaint,
    })
}

/// The form of a sign-in link; a password is optional, so that a demo is one click away.
#[derive(serde::Deserialize)]
pub struct LinkForm {
    #[serde(default)]
    password: String,
}

/// `POST /sign-in/{token}`: spends the link, sets a password if one was typed, and signs in.
pub async fn use_link(
    State(state): State<AppState>,
    headers: HeaderMap,
    page: Page,
    Path(secret): Path<String>,
    Form(form): Form<LinkForm>,
) -> AppResult<Response> {
    if !form.password.is_empty()
        && let Some(complaint) = password::complaint(&form.password)
    {
        let body = link_page(&state, page, secret, Some(complaint)).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, body).into_response());
    }
    let hash = match form.password.is_empty() {
        true => None,
        false => {
            // Hashing is dear, so it is only for those who hold a link that works.
            let mut db = state.db.acquire().await?;
            store::sign_in_links::find(&mut db, &secret)
                .await?
                .ok_or(NO_LINK)?;
            drop(db);
            Some(password::hash(form.password).await?)
        }
    };
    let mut transaction = state.db.begin().await?;
    let id = store::sign_in_links::consume(&mut transaction, &secret)
        .await?
        .ok_or(NO_LINK)?;
    if let Some(hash) = hash {
        store::accounts::set_password(&mut transaction, id, &hash).await?;
        store::sessions::delete_all(&mut transaction, id).await?;
        let event = NewEvent::by(id, AuditAction::PasswordSet);
        store::audit_events::record(&mut transaction, event).await?;
    }
    let response = open_session(&state, &mut transaction, id, &headers, "link").await?;
    transaction.commit().await?;
    Ok(response)
}

/// `POST /sign-out`.
pub async fn delete(State(state): State<AppState>, visitor: Visitor) -> AppResult<Response> {
    if let Some(id) = visitor.session_id {
        let mut db = state.db.begin().await?;
        store::sessions::delete(&mut db, visitor.account_id, id).await?;
        let event = NewEvent::by(visitor.account_id, AuditAction::SignOut);
        store::audit_events::record(&mut db, event).await?;
        db.commit().await?;
    }
    let cookie = session::clear_cookie(state.config.is_https());
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/sign-in")).into_response())
}

/// Opens a session and notes how, in the caller's transaction.
async fn open_session(
    state: &AppState,
    db: &mut PgConnection,
    id: AccountId,
    headers: &HeaderMap,
    by: &'static str,
) -> AppResult<Response> {
    let token = Token::generate()?;
    let agent = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let days = state.config.session_days;
    store::sessions::insert(&mut *db, &token.hash(), id, agent, days).await?;
    let event = NewEvent::by(id, AuditAction::SignIn).with(json!({"by": by}));
    store::audit_events::record(db, event).await?;
    let cookie = session::set_cookie(token.reveal(), days, state.config.is_https());
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

/// The asker's address: the connection's, or what a trusted proxy says.
pub(super) fn client_address(
    state: &AppState,
    headers: &HeaderMap,
    connection: Option<Extension<ConnectInfo<SocketAddr>>>,
) -> Option<IpAddr> {
    let forwarded = match state.config.trust_proxy {
        true => forwarded_address(headers),
        false => None,
    };
    forwarded.or_else(|| connection.map(|Extension(ConnectInfo(address))| address.ip()))
}

/// Said once: that many lines a second would say no more.
static UNREADABLE: Once = Once::new();

/// The last entry of all `x-forwarded-for` lines is the proxy's own word; earlier ones are the
/// client's.
fn forwarded_address(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    let address = last.to_str().ok().and_then(read_forwarded);
    if address.is_none() {
        UNREADABLE.call_once(|| {
            tracing::warn!(
                entry = ?last,
                "the proxy's X-Forwarded-For does not end in an address: all who come through it are counted as one"
            );
        });
    }
    address
}

/// The address at the end of a line, which some proxies write with the client's port, and one of IPv6 in
/// brackets.
fn read_forwarded(line: &str) -> Option<IpAddr> {
    let entry = line.rsplit(',').next()?.trim();
    let with_port = || entry.parse().ok().map(|address: SocketAddr| address.ip());
    let in_brackets = || -> Option<IpAddr> {
        let inner = entry.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse().ok().map(IpAddr::V6)
    };
    let bare = entry.parse().ok();
    bare.or_else(with_port).or_else(in_brackets)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_proxys_own_word_is_believed() {
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded_address(&headers), None);
        let lines = ["192.0.2.1", "192.0.2.2, 192.0.2.3"];
        for line in lines.map(HeaderValue::from_static) {
            headers.append("x-forwarded-for", line);
        }
        assert_eq!(
            forwarded_address(&headers),
            Some(IpAddr::from([192, 0, 2, 3]))
        );
    }

    #[test]
    fn an_address_is_read_with_its_port_and_in_brackets_and_nothing_else_is() {
        for (entry, expected) in [
            ("192.0.2.3", Some("192.0.2.3")),
            (" 192.0.2.3:51234 ", Some("192.0.2.3")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("198.51.100.9, [2001:db8::1]:443", Some("2001:db8::1")),
            ("192.0.2.3, unknown", None),
            ("192.0.2.3:", None),
            ("192.0.2.3:99999", None),
            ("[192.0.2.3]", None),
            ("[2001:db8::1", None),
            ("", None),
        ] {
            let expected = expected.and_then(|text| text.parse().ok());
            assert_eq!(read_forwarded(entry), expected, "{entry:?}");
        }
    }
}
