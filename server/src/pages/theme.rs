//! `POST /theme`: remembers whether pages are light, dark or as the system has it, in a cookie, and goes
//! back.

use axum::extract::Form;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Redirect, Response};

use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::web::page::{THEME_COOKIE, Theme};

/// The form of the account page.
#[derive(serde::Deserialize)]
pub struct ThemeForm {
    theme: String,
}

/// Sets the cookie.
pub async fn set(Form(form): Form<ThemeForm>) -> AppResult<Response> {
    let theme = Theme::from_word(&form.theme)
        .ok_or_else(|| AppError::invalid("theme", Message::new("error-unknown-choice")))?;
    let word = theme.as_str();
    let cookie = format!("{THEME_COOKIE}={word}; Path=/; SameSite=Lax; Max-Age=31536000");
    let back = Redirect::to("/account#theme");
    Ok(([(SET_COOKIE, cookie)], back).into_response())
}
