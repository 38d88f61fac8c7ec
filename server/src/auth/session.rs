//! The session cookie: a random token, `HttpOnly`, `SameSite=Lax`, and with `__Host-` and
//! `Secure` where browsers reach us by https.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;

/// The cookie's name; `__Host-` forbids other hosts of the domain to set it, and needs https.
pub fn cookie_name(is_https: bool) -> &'static str {
    if is_https {
        "__Host-plackett"
    } else {
        "plackett"
    }
}

/// The `Set-Cookie` value that hands out a session.
pub fn set_cookie(token: &str, max_age_days: u32, is_https: bool) -> String {
    let name = cookie_name(is_https);
    let secure = if is_https { "; Secure" } else { "" };
    let seconds = u64::from(max_age_days) * 86_400;
    format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}")
}

/// The `Set-Cookie` value that takes a session back.
pub fn clear_cookie(is_https: bool) -> String {
    set_cookie("", 0, is_https)
}

/// The value of cookie `name`, if the request has one.
pub fn read_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_an_empty_one_is_none() {
        let mut headers = HeaderMap::new();
        headers.insert(
            COOKIE,
            "lang=zh; plackett=abc; other=".parse().expect("ascii"),
        );
        assert_eq!(read_cookie(&headers, "plackett"), Some("abc"));
        assert_eq!(read_cookie(&headers, "other"), None);
        assert_eq!(read_cookie(&headers, "ang"), None);
    }
}
