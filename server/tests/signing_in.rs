//! Signing in: links work once, wrong passwords tell nothing, sessions can be ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use server::auth::password;
use server::config::ServeConfig;
use server::domain::role::Role;
use server::store;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::io::AsyncWriteExt;

use crate::support::TestApp;
use crate::support::program::Program;

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_sign_in_link_works_once(db: PgPool) {
    let app = TestApp::new(db);
    let mut connection = app.state.db.acquire().await.unwrap();
    let id = store::accounts::insert(
        &mut connection,
        "Ada@Example.org",
        "Ada",
        &[Role::Labeler],
        false,
    )
    .await
    .unwrap();
    let link = store::sign_in_links::create(&mut connection, id, None, 1)
        .await
        .unwrap();
    let path = format!("/sign-in/{}", link.reveal());
    assert_eq!(app.anonymous().get(&path).await.status, StatusCode::OK);
    assert_eq!(
        app.anonymous().post(&path, "").await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        app.anonymous().post(&path, "").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        app.anonymous().get(&path).await.status,
        StatusCode::NOT_FOUND
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn somebody_who_forgot_the_password_sets_a_new_one_by_a_link(db: PgPool) {
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let sign_in = async |password: &str| {
        let form = format!("email=ada%40example.org&password={password}");
        app.anonymous().post("/sign-in", &form).await.status
    };
    for password in ["first-password", "second-password"] {
        let mut connection = app.state.db.acquire().await.unwrap();
        let id = ada.account_id.unwrap();
        let link = store::sign_in_links::create(&mut connection, id, None, 1)
            .await
            .unwrap();
        let path = format!("/sign-in/{}", link.reveal());
        let page = app.anonymous().get(&path).await;
        assert!(page.body.contains("name=\"password\""), "{}", page.body);
        let form = format!("password={password}");
        let answer = app.anonymous().post(&path, &form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert_eq!(sign_in(password).await, StatusCode::SEE_OTHER);
    }
    assert_eq!(
        sign_in("first-password").await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_unknown_address_and_a_wrong_password_get_the_same_answer(db: PgPool) {
    let app = TestApp::new(db);
    let mut connection = app.state.db.acquire().await.unwrap();
    let id = store::accounts::insert(
        &mut connection,
        "ada@example.org",
        "Ada",
        &[Role::Labeler],
        false,
    )
    .await
    .unwrap();
    let hash = password::hash("correct horse battery".to_owned())
        .await
        .unwrap();
    store::accounts::set_password(&mut connection, id, &hash)
        .await
        .unwrap();

    let wrong = app
        .anonymous()
        .post("/sign-in", "email=ada%40example.org&password=nonsense00")
        .await;
    let unknown = app
        .anonymous()
        .post("/sign-in", "email=eve%40example.org&password=nonsense00")
        .await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(unknown.status, wrong.status);
    assert_eq!(unknown.body.replace("eve@", "ada@"), wrong.body);
    let right = app
        .anonymous()
        .post(
            "/sign-in",
            "email=ADA%40example.org&password=correct+horse+battery",
        )
        .await;
    assert_eq!(right.status, StatusCode::SEE_OTHER);
    assert!(right.cookies[0].contains("HttpOnly") && right.cookies[0].contains("SameSite=Lax"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn guessing_is_slowed_down_for_unknown_accounts_too(db: PgPool) {
    let app = TestApp::new(db);
    for _ in 0..6 {
        let answer = app
            .anonymous()
            .post("/sign-in", "email=eve%40example.org&password=guess")
            .await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let answer = app
        .anonymous()
        .post("/sign-in", "email=eve%40example.org&password=guess")
        .await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers.contains_key("retry-after"));
}

/// Whoever guesses keeps themselves waiting, and not the owner; many accounts are not tried from one address.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn guesses_from_elsewhere_do_not_keep_the_owner_out(db: PgPool) {
    let config = ServeConfig {
        trust_proxy: true,
        ..ServeConfig::default()
    };
    let app = TestApp::with_config(db.clone(), config);
    owner(&app).await;
    let guess = "email=ada%40example.org&password=nonsense00";
    let right = "email=ada%40example.org&password=correct+horse+battery";
    for _ in 0..6 {
        let answer = sign_in_from(&app, "192.0.2.66", guess).await;
        assert_eq!(answer, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let waits = StatusCode::TOO_MANY_REQUESTS;
    assert_eq!(sign_in_from(&app, "192.0.2.66", right).await, waits);
    // What a client writes before the proxy's own word changes nothing.
    let forged = "198.51.100.1, 192.0.2.66";
    assert_eq!(sign_in_from(&app, forged, right).await, waits);
    for _ in 0..8 {
        let owner = sign_in_from(&app, "192.0.2.1", right).await;
        assert_eq!(owner, StatusCode::SEE_OTHER, "a success is no failure");
    }
    let mut refused = 0;
    for n in 0..40 {
        let form = format!("email=user{n}%40example.org&password=nonsense00");
        refused += usize::from(sign_in_from(&app, "192.0.2.99", &form).await == waits);
    }
    assert!((1..=10).contains(&refused), "{refused}");
}

/// Without a proxy that is trusted, everybody may write that header.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_forwarded_address_is_believed_only_where_that_is_set(db: PgPool) {
    let app = TestApp::new(db);
    owner(&app).await;
    let guess = "email=ada%40example.org&password=nonsense00";
    for n in 0..6 {
        let answer = sign_in_from(&app, &format!("192.0.2.{n}"), guess).await;
        assert_eq!(answer, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let answer = sign_in_from(&app, "192.0.2.200", guess).await;
    assert_eq!(answer, StatusCode::TOO_MANY_REQUESTS);
}

/// Ada, who has a password.
async fn owner(app: &TestApp) {
    let ada = app.labeler("ada").await;
    let hash = password::hash("correct horse battery".to_owned())
        .await
        .unwrap();
    let mut connection = app.state.db.acquire().await.unwrap();
    store::accounts::set_password(&mut connection, ada.account_id.unwrap(), &hash)
        .await
        .unwrap();
}

/// Sends the form through a proxy that says whom it is for.
async fn sign_in_from(app: &TestApp, address: &str, form: &str) -> StatusCode {
    let nobody = app.anonymous();
    let request = nobody
        .request("POST", "/sign-in")
        .header("x-forwarded-for", address)
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = nobody.send(request.body(form.to_owned().into()).unwrap());
    answer.await.status
}

/// A failure of ours says nothing of who asks.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn whoever_meets_a_database_that_is_gone_need_not_wait_afterwards(db: PgPool) {
    let app = TestApp::new(db);
    app.state.db.close().await;
    for _ in 0..8 {
        let form = "email=ada%40example.org&password=nonsense00";
        let answer = app.anonymous().post("/sign-in", form).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}

/// A pool of one connection, and how often it came back.
async fn one_connection(db: &PgPool) -> (PgPool, Arc<AtomicUsize>) {
    let releases = Arc::new(AtomicUsize::new(0));
    let counted = releases.clone();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .after_release(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(true) })
        })
        .connect_with((*db.connect_options()).clone())
        .await
        .unwrap();
    (pool, releases)
}

/// Whoever tries very many passwords keeps those waiting who sign in, and nobody who works.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn whoever_waits_for_a_turn_at_hashing_holds_no_connection(db: PgPool) {
    owner(&TestApp::new(db.clone())).await;
    let (pool, releases) = one_connection(&db).await;
    let app = TestApp::new(pool.clone());
    let turns = password::TURNS.acquire_many(2).await.unwrap();
    let guesses = (0..4).map(|n| {
        let form = format!("email=user{n}%40example.org&password=nonsense00");
        let nobody = app.anonymous();
        async move { nobody.post("/sign-in", &form).await.status }
    });
    let mut guesses = std::pin::pin!(futures_util::future::join_all(guesses));
    let working = async {
        // All have asked who it is, and wait.
        while releases.load(Ordering::SeqCst) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        pool.acquire().await.unwrap();
    };
    tokio::select! {
        statuses = &mut guesses => panic!("nobody had a turn: {statuses:?}"),
        worked = tokio::time::timeout(Duration::from_secs(60), working) => worked.unwrap(),
    }
    drop(turns);
    assert_eq!(guesses.await, [StatusCode::UNPROCESSABLE_ENTITY; 4]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_password_is_changed_where_there_is_but_one_connection(db: PgPool) {
    let (pool, _) = one_connection(&db).await;
    let app = TestApp::new(pool);
    let ada = app.labeler("ada").await;
    for (current, new, expected) in [
        ("", "first-password", StatusCode::SEE_OTHER),
        (
            "wrong-password",
            "second-password",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        ("first-password", "short", StatusCode::UNPROCESSABLE_ENTITY),
        ("first-password", "second-password", StatusCode::SEE_OTHER),
    ] {
        // The session ends with the password.
        let ada = app.sign_in(ada.account_id.unwrap()).await;
        let form = format!("current={current}&password={new}");
        let answer = ada.post("/account/password", &form).await;
        assert_eq!(answer.status, expected, "{current} {new}: {}", answer.body);
    }
}

/// What was begun is ended although whoever asked has gone and the server stops.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_stopping_server_ends_what_nobody_waits_for_any_more(db: PgPool) {
    owner(&TestApp::new(db.clone())).await;
    let count_sessions = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM sessions")
            .fetch_one(&db)
            .await
            .unwrap()
    };
    let before = count_sessions().await;
    let mut program = Program::start(&db, &["--no-worker"]).await;
    // The sign-in waits for this, and needs the database again after that.
    let mut held = db.begin().await.unwrap();
    sqlx::query("LOCK TABLE accounts")
        .execute(&mut *held)
        .await
        .unwrap();
    let address = program.url.trim_start_matches("http://").to_owned();
    let form = "email=ada%40example.org&password=correct+horse+battery";
    let mut asker = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!(
        "POST /sign-in HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{form}",
        form.len()
    );
    asker.write_all(request.as_bytes()).await.unwrap();
    until("it waits for the lock", async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
             WHERE NOT l.granted AND a.datname = current_database()",
        )
        .fetch_one(&db)
        .await
        .unwrap();
        waiting > 0
    })
    .await;
    drop(asker);
    program.terminate();
    until("it takes nobody in any more", async || {
        tokio::net::TcpStream::connect(&address).await.is_err()
    })
    .await;
    // Long enough for a server that does not wait to close its pool; one that waits is in no hurry.
    tokio::time::sleep(Duration::from_secs(1)).await;
    held.rollback().await.unwrap();
    until("it has ended", async || program.has_ended()).await;
    let after = count_sessions().await;
    assert_eq!(after, before + 1, "the sign-in was carried to its end");
}

/// Waits for something that comes about elsewhere.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1_200 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_address_too_long_for_an_account_is_refused_like_a_wrong_password(db: PgPool) {
    let app = TestApp::new(db);
    let email = format!("{}%40example.org", "a".repeat(300));
    let form = format!("email={email}&password=nonsense00");
    for _ in 0..8 {
        let answer = app.anonymous().post("/sign-in", &form).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.body.contains("Address or password is wrong"));
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_session_ends_when_it_is_signed_out_or_its_account_is_switched_off(db: PgPool) {
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    assert_eq!(ada.get("/account").await.status, StatusCode::OK);
    ada.post("/sign-out", "").await;
    assert_eq!(
        ada.get("/account").await.location.as_deref(),
        Some("/sign-in")
    );

    let bob = app.labeler("bob").await;
    let mut connection = app.state.db.acquire().await.unwrap();
    store::accounts::set_disabled(&mut connection, bob.account_id.unwrap(), true)
        .await
        .unwrap();
    assert_eq!(
        bob.get("/account").await.location.as_deref(),
        Some("/sign-in")
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_post_from_another_site_is_refused(db: PgPool) {
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let request = ada
        .request("POST", "/sign-out")
        .header("sec-fetch-site", "cross-site");
    let answer = ada
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(ada.get("/account").await.status, StatusCode::OK);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn roles_are_checked_on_the_server(db: PgPool) {
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    assert_eq!(ada.get("/accounts").await.status, StatusCode::FORBIDDEN);
    let form = "email=x%40example.org&name=X&roles=admin";
    assert_eq!(
        ada.post("/accounts", form).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        app.anonymous().get("/accounts").await.location.as_deref(),
        Some("/sign-in")
    );

    let admin = app.admin().await;
    let made = admin
        .post("/accounts", &format!("{form}&roles=labeler"))
        .await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    assert!(
        made.body.contains("/sign-in/"),
        "the invite link is shown once"
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_bearer_token_works_until_it_is_revoked_and_a_wrong_one_is_an_error(db: PgPool) {
    let app = TestApp::new(db);
    let robot = app.program("robot", &[Role::Labeler]).await;
    assert_eq!(robot.get("/account").await.status, StatusCode::OK);
    let mut connection = app.state.db.acquire().await.unwrap();
    let tokens = store::api_tokens::list(&mut connection, robot.account_id.unwrap())
        .await
        .unwrap();
    store::api_tokens::revoke(&mut connection, robot.account_id.unwrap(), tokens[0].id)
        .await
        .unwrap();
    let answer = robot.get("/api/v1/nothing").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_foreign_authorization_is_ignored_on_pages_and_an_error_in_the_api(db: PgPool) {
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let get = async |path: &str, authorization: &str| {
        let request = ada
            .request("GET", path)
            .header("authorization", authorization);
        let answer = ada.send(request.body(axum::body::Body::empty()).unwrap());
        answer.await.status
    };
    assert_eq!(get("/account", "Basic YTpi").await, StatusCode::OK);
    let refused = get("/api/v1/projects", "Basic YTpi").await;
    assert_eq!(refused, StatusCode::UNAUTHORIZED);
    let id = ada.account_id.unwrap();
    let mut connection = app.state.db.acquire().await.unwrap();
    let token = store::api_tokens::create(&mut connection, id, "test")
        .await
        .unwrap();
    let bearer = format!("bearer {}", token.reveal());
    assert_eq!(get("/api/v1/projects", &bearer).await, StatusCode::OK);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_server_without_its_database_says_so_in_plain_text(db: PgPool) {
    let app = TestApp::new(db);
    assert_eq!(app.anonymous().get("/readyz").await.body, "ready\n");
    app.state.db.close().await;
    let answer = app.anonymous().get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body, "the database does not answer\n");
}
