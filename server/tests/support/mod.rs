//! A visitor's view of the server: requests go through the real router, on a database of the
//! test's own.

pub(crate) mod browser;
pub(crate) mod crowd;
pub(crate) mod fake;
pub(crate) mod hostile;
pub(crate) mod program;
pub(crate) mod sayings;
pub(crate) mod world;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use server::config::{DataConfig, ServeConfig};
use server::domain::ids::AccountId;
use server::domain::role::Role;
use server::state::AppState;
use server::store;
use sqlx::PgPool;
use tower::ServiceExt;

/// The server over a test's database.
pub(crate) struct TestApp {
    pub(crate) state: AppState,
    router: axum::Router,
    // Removed with the test.
    _folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) cookies: Vec<String>,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Somebody with a session cookie, a bearer token, or neither.
#[derive(Clone)]
pub(crate) struct Client<'app> {
    app: &'app TestApp,
    pub(crate) account_id: Option<AccountId>,
    cookie: Option<String>,
    bearer: Option<String>,
}

impl TestApp {
    pub(crate) fn new(db: PgPool) -> Self {
        Self::with_config(db, ServeConfig::default())
    }

    pub(crate) fn with_config(db: PgPool, config: ServeConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = DataConfig {
            database_url: None,
            data_dir: Some(folder.path().to_owned()),
        };
        let state = AppState::new(db, config, data);
        let router = server::router::router(state.clone());
        Self {
            state,
            router,
            _folder: folder,
        }
    }

    pub(crate) fn anonymous(&self) -> Client<'_> {
        Client {
            app: self,
            account_id: None,
            cookie: None,
            bearer: None,
        }
    }

    /// A fresh account with the roles, signed in by cookie.
    pub(crate) async fn client(&self, name: &str, roles: &[Role]) -> Client<'_> {
        let mut db = self.state.db.acquire().await.unwrap();
        let email = format!("{name}@example.org");
        let id = store::accounts::insert(&mut db, &email, name, roles, false)
            .await
            .unwrap();
        drop(db);
        self.sign_in(id).await
    }

    /// An account, signed in by a link.
    pub(crate) async fn sign_in(&self, id: AccountId) -> Client<'_> {
        fake::acknowledge(&self.state.db).await;
        let mut db = self.state.db.acquire().await.unwrap();
        let link = store::sign_in_links::create(&mut db, id, None, 1)
            .await
            .unwrap();
        drop(db);
        let answer = self
            .anonymous()
            .post(&format!("/sign-in/{}", link.reveal()), "")
            .await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        let cookie = answer.cookies[0].split(';').next().unwrap().to_owned();
        Client {
            app: self,
            account_id: Some(id),
            cookie: Some(cookie),
            bearer: None,
        }
    }

    pub(crate) async fn labeler(&self, name: &str) -> Client<'_> {
        self.client(name, &[Role::Labeler]).await
    }

    pub(crate) async fn admin(&self) -> Client<'_> {
        self.client("admin", &[Role::Admin]).await
    }

    pub(crate) async fn operator(&self) -> Client<'_> {
        self.client("operator", &[Role::Operator]).await
    }

    /// A fresh account with the roles, speaking with a bearer token.
    pub(crate) async fn program(&self, name: &str, roles: &[Role]) -> Client<'_> {
        let mut db = self.state.db.acquire().await.unwrap();
        let email = format!("{name}@example.org");
        let id = store::accounts::insert(&mut db, &email, name, roles, false)
            .await
            .unwrap();
        let token = store::api_tokens::create(&mut db, id, "test")
            .await
            .unwrap();
        drop(db);
        fake::acknowledge(&self.state.db).await;
        let bearer = Some(token.reveal().to_owned());
        Client {
            app: self,
            account_id: Some(id),
            cookie: None,
            bearer,
        }
    }
}

/// Fields as a form sends them.
pub(crate) fn encode(fields: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        let escaped = text.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        });
        escaped.collect()
    };
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

impl Client<'_> {
    /// The test's database.
    pub(crate) fn db(&self) -> &PgPool {
        &self.app.state.db
    }

    /// Presses the button on `/work`, and returns the assignment's path.
    pub(crate) async fn open_task(&self) -> String {
        let answer = self.post("/work", "").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        answer.location.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path).body(Body::empty()).unwrap())
            .await
    }

    /// Posts a form, already encoded.
    pub(crate) async fn post(&self, path: &str, form: &str) -> Answer {
        let request = self
            .request("POST", path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).unwrap())
            .await
    }

    /// Sends JSON with extra headers.
    pub(crate) async fn send_json(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &serde_json::Value,
    ) -> Answer {
        let mut request = self
            .request(method, path)
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        request
    }

    /// The answer's head; its body is still to come.
    pub(crate) async fn open(&self, request: Request<Body>) -> Response<Body> {
        self.app.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.open(request).await;
        let status = response.status();
        let headers = response.headers().clone();
        let texts = |name| -> Vec<String> {
            headers
                .get_all(name)
                .iter()
                .map(|value| value.to_str().unwrap().to_owned())
                .collect()
        };
        let (cookies, location) = (texts(SET_COOKIE), texts(LOCATION).pop());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Answer {
            status,
            location,
            cookies,
            headers,
            body,
        }
    }
}
