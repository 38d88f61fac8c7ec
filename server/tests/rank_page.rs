//! What the ranking page says when something cannot be taken: in the labeler's language, by the
//! letters on the cards, with everything that was typed still there.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{ACCEPT_LANGUAGE, CONTENT_TYPE};
use server::domain::role::Role;
use sqlx::PgPool;

use crate::support::{Answer, Client, TestApp, fake};

const RANKS: &str = "rank-1=2&rank-2=1&rank-3=2&rank-4=3";

/// Posts a form as a browser set to Chinese does.
async fn post_in_chinese(client: &Client<'_>, path: &str, form: &str) -> Answer {
    let request = client
        .request("POST", path)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT_LANGUAGE, "zh-CN");
    client
        .send(request.body(Body::from(form.to_owned())).unwrap())
        .await
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_missing_rank_is_named_by_its_letter_and_marked_on_its_card(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let form = "rank-1=2&rank-2=1&rank-3=2&rating-3=5&action=submit&idempotency_key=k";
    let answer = ada.post(&path, form).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let link = r##"<a href="#rank-4">Candidate D, rank: needs a rank"##;
    assert!(answer.body.contains(link), "{}", answer.body);
    let marked = r#"id="rank-4" role="radiogroup" tabindex="-1" aria-invalid="true""#;
    assert!(answer.body.contains(marked), "{}", answer.body);
    assert!(!answer.body.contains("candidates["), "{}", answer.body);

    let answer = post_in_chinese(&ada, &path, form).await;
    assert!(
        answer.body.contains("候选 D，名次：需要名次"),
        "{}",
        answer.body
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn refusals_are_in_the_readers_language_and_those_of_the_api_in_english(db: PgPool) {
    let app = TestApp::new(db);
    let admin = app.client("both", &[Role::Admin, Role::Labeler]).await;
    let form = "email=nobody&name=N&roles=labeler";
    let page = post_in_chinese(&admin, "/accounts", form).await;
    assert!(
        page.body.contains("电子邮件：这不是电子邮件地址"),
        "{}",
        page.body
    );
    let id = admin.account_id.unwrap();
    let page = post_in_chinese(&admin, &format!("/accounts/{id}/disabled"), "disabled=true").await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    assert!(page.body.contains("您不能停用自己的账户"), "{}", page.body);
    let path = format!("/api/v1/assignments/{}/skip", uuid::Uuid::nil());
    let request = admin
        .request("POST", &path)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT_LANGUAGE, "zh-CN");
    let body = Body::from(r#"{"reason":"other"}"#);
    let answer = admin.send(request.body(body).unwrap()).await;
    assert_eq!(answer.json()["detail"], "this assignment does not exist");
    let request = admin
        .request("GET", "/tasks/abc")
        .header(ACCEPT_LANGUAGE, "zh-CN");
    let page = admin.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    assert!(page.body.contains("无法读取"), "{}", page.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn saving_by_hand_says_so_and_does_not_overwrite_another_window(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let save =
        |revision: i64, note: &str| format!("{RANKS}&note={note}&action=save&revision={revision}");
    let saved = ada.post(&path, &save(0, "first")).await;
    let to = saved.location.unwrap();
    let page = ada.get(&to).await.body;
    assert!(page.contains(r#"role="status">Draft saved"#), "{page}");
    // The other window still shows revision 0.
    let refused = ada.post(&path, &save(0, "second")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let said = r#"id="errors" tabindex="-1"><p>Another window saved a newer draft"#;
    assert!(refused.body.contains(said), "{}", refused.body);
    assert!(
        refused.body.contains(">second</textarea>"),
        "typed work is lost"
    );
    assert!(ada.get(&path).await.body.contains(">first</textarea>"));
    // Its page now knows the newer one, and pressing again is a decision.
    assert!(refused.body.contains(r#"name="revision" value="1""#));
    ada.post(&path, &save(1, "second")).await;
    assert!(ada.get(&path).await.body.contains(">second</textarea>"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_save_after_another_window_submitted_says_that_it_was_submitted(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let submit = format!("{RANKS}&action=submit&idempotency_key=k");
    ada.post(&path, &submit).await;
    let refused = ada
        .post(&path, &format!("{RANKS}&note=late&action=save&revision=0"))
        .await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body.contains("has ended"), "{}", refused.body);
    let newer = "another window saved a newer draft";
    assert!(!refused.body.contains(newer), "{}", refused.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn work_sent_after_the_session_ended_can_be_sent_again(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    sqlx::query("DELETE FROM sessions")
        .execute(&db)
        .await
        .unwrap();
    let form = format!("{RANKS}&action=submit&idempotency_key=k");
    let answer = ada.post(&path, &form).await;
    // No redirect: loading this answer again sends the form again.
    assert_eq!(
        (answer.status, answer.location),
        (StatusCode::UNAUTHORIZED, None)
    );
    assert!(
        answer.body.contains("load this page again"),
        "{}",
        answer.body
    );
    // Where nothing was typed there is nothing to keep.
    for nothing in ["/work", "/sign-out"] {
        let sent = ada.post(nothing, "").await;
        assert_eq!(sent.location.as_deref(), Some("/sign-in"), "{nothing}");
    }
    let looked = ada.get(&path).await;
    assert_eq!(looked.location.as_deref(), Some("/sign-in"));
    let again = app.sign_in(ada.account_id.unwrap()).await;
    assert_eq!(
        again.post(&path, &form).await.location.as_deref(),
        Some("/work?submitted=in-time")
    );
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM rankings")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(n, 1);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_reads_notes_and_reasons_on_the_tasks_page(db: PgPool) {
    fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let first = ada.open_task().await;
    let submit = format!("{RANKS}&note=close+call&action=submit&idempotency_key=k");
    let second = ada.post(&first, &submit).await.location.unwrap();
    let skip = "action=skip&reason=unclear_prompt&skip_note=which+one%3F";
    ada.post(&second, skip).await;
    // The same skip sent again keeps what was said.
    ada.post(&second, "action=skip&reason=unclear_prompt&skip_note=")
        .await;
    let page = app.admin().await.get("/tasks").await.body;
    for words in [
        "close call",
        "which one?",
        "The request cannot be understood",
    ] {
        assert!(page.contains(words), "no {words:?} in {page}");
    }
}
