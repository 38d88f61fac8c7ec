//! Conditional requests (RFC 9110, section 13): whoever has a file already is not sent it again, and a
//! download goes on only where the file is still the same.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONTENT_ENCODING, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// The strong entity tag of some bytes. What it is made of must decide them.
#[derive(Debug, Clone)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// A tag of a few words: letters, digits and the like.
    ///
    /// # Errors
    /// When a word has a character that no header holds.
    pub fn new(words: &[&str]) -> anyhow::Result<Self> {
        let tag = format!("\"{}\"", words.join("."));
        Ok(Self(HeaderValue::from_str(&tag)?))
    }

    /// The value of the header `ETag`.
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The answer to whoever has these bytes, or wants to go on with others; none for whoever is to be
    /// sent them.
    pub fn answer(&self, asked: &HeaderMap) -> Option<Response> {
        if asked.contains_key(IF_MATCH) && !self.is_in(asked, IF_MATCH, false) {
            return Some(StatusCode::PRECONDITION_FAILED.into_response());
        }
        self.is_in(asked, IF_NONE_MATCH, true).then(|| {
            let headers = [
                (ETAG, self.value()),
                (VARY, HeaderValue::from_static("accept-encoding")),
            ];
            (StatusCode::NOT_MODIFIED, headers, Body::empty()).into_response()
        })
    }

    /// Takes out of a request what was looked at by [`answer`](Self::answer), and the range where it is one
    /// of other bytes. Dates say less than the tag: a file that is built again is as old as it is new.
    pub fn settle(&self, asked: &mut HeaderMap) {
        let is_other = asked.get(IF_RANGE).is_some_and(|given| *given != self.0);
        if is_other {
            asked.remove(RANGE);
        }
        for name in [
            IF_MATCH,
            IF_NONE_MATCH,
            IF_RANGE,
            IF_MODIFIED_SINCE,
            IF_UNMODIFIED_SINCE,
        ] {
            asked.remove(name);
        }
    }

    /// Whether the tag is in a list of them. `weakly`: also where it is marked as weak.
    fn is_in(&self, asked: &HeaderMap, name: HeaderName, weakly: bool) -> bool {
        let own = self.0.as_bytes();
        // Our tags hold no comma, so that one with a comma inside, cut in two, is none of them.
        let given = asked.get_all(name).iter();
        let mut given = given.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        given.any(|tag| match tag.trim_ascii() {
            b"*" => true,
            tag => tag == own || weakly && tag.strip_prefix(b"W/") == Some(own),
        })
    }
}

/// Marks the tag of an answer that was packed on the way as weak: its bytes are others, so that nobody may go
/// on with them in the middle.
pub async fn weaken_packed(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_ENCODING)
        && let Some(tag) = headers.get(ETAG)
        && !tag.as_bytes().starts_with(b"W/")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/".as_slice(), tag.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
    response
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn asked(headers: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pairs = headers.iter().cloned();
        pairs
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn who_has_it_is_told_so_and_who_has_another_is_sent_it() {
        let tag = EntityTag::new(&["abc", "trl"]).unwrap();
        assert_eq!(tag.value(), "\"abc.trl\"");
        for (list, is_told) in [
            ("\"abc.trl\"", true),
            ("\"x\" , W/\"abc.trl\"", true),
            ("*", true),
            ("\"abc\"", false),
            ("abc.trl", false),
            ("", false),
        ] {
            let answer = tag.answer(&asked(&[(IF_NONE_MATCH, list)]));
            let status = answer.map(|answer| answer.status());
            let expected = is_told.then_some(StatusCode::NOT_MODIFIED);
            assert_eq!(status, expected, "{list}");
        }
        assert!(tag.answer(&HeaderMap::new()).is_none());
        let refused = tag.answer(&asked(&[(IF_MATCH, "W/\"abc.trl\"")]));
        assert_eq!(refused.unwrap().status(), StatusCode::PRECONDITION_FAILED);
        assert!(tag.answer(&asked(&[(IF_MATCH, "\"abc.trl\"")])).is_none());
    }

    #[test]
    fn a_range_is_kept_only_of_the_same_bytes() {
        let tag = EntityTag::new(&["abc"]).unwrap();
        for (given, is_kept) in [
            ("\"abc\"", true),
            ("W/\"abc\"", false),
            ("\"old\"", false),
            ("Thu, 26 Nov 2026 12:00:00 GMT", false),
        ] {
            let mut headers = asked(&[(RANGE, "bytes=5-"), (IF_RANGE, given)]);
            tag.settle(&mut headers);
            assert_eq!(headers.contains_key(RANGE), is_kept, "{given}");
            assert!(!headers.contains_key(IF_RANGE));
        }
        let mut headers = asked(&[(RANGE, "bytes=5-"), (IF_MODIFIED_SINCE, "x")]);
        tag.settle(&mut headers);
        assert!(headers.contains_key(RANGE) && !headers.contains_key(IF_MODIFIED_SINCE));
    }
}
