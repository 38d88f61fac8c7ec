//! `POST /language`: remembers the language chosen, in a cookie, and goes back.

use axum::extract::Form;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Redirect, Response};

use crate::error::{AppError, AppResult};
use crate::i18n::Lang;
use crate::message::Message;
use crate::web::page::LANG_COOKIE;

/// The form of the switch in the page's head.
#[derive(serde::Deserialize)]
pub struct LanguageForm {
    lang: String,
    #[serde(default)]
    back: String,
}

/// Sets the cookie. `back` must be a path of ours, or the home page is shown.
pub async fn set(Form(form): Form<LanguageForm>) -> AppResult<Response> {
    let lang = Lang::from_tag(&form.lang)
        .ok_or_else(|| AppError::invalid("lang", Message::new("error-choose-language")))?;
    let cookie = format!("{LANG_COOKIE}={lang}; Path=/; SameSite=Lax; Max-Age=31536000");
    let is_ours =
        form.back.starts_with('/') && !form.back.starts_with("//") && !form.back.contains('\\');
    let back = if is_ours { form.back.as_str() } else { "/" };
    Ok(([(SET_COOKIE, cookie)], Redirect::to(back)).into_response())
}
