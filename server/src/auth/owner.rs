//! Whose page a script's request comes from. A browser has one session: once somebody else signs in, what a page of
//! the account before still sends would be theirs.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use crate::auth::visitor::Visitor;
use crate::error::{AppError, AppResult};

/// The header in which the pages' scripts name the account that a page was made for (`static/js/page.js`). Programs
/// have their own token and send none.
pub const HEADER: &str = "plackett-account";

/// Middleware: refuses what a page of another account sends, as if nobody had signed in. It comes after the visitor
/// is found.
///
/// # Errors
/// `SignInRequired`.
pub async fn check(request: Request, next: Next) -> AppResult<Response> {
    let owner = request.headers().get(HEADER);
    let visitor = request.extensions().get::<Visitor>();
    if let (Some(owner), Some(visitor)) = (owner, visitor)
        && owner.as_bytes() != visitor.account_id.to_string().as_bytes()
    {
        return Err(AppError::SignInRequired);
    }
    Ok(next.run(request).await)
}
