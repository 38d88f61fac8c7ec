//! Who labels in a project, and what they have read and agreed to before.

use axum::http::StatusCode;
use server::domain::ids::ProjectId;
use sqlx::PgPool;

use crate::projects::{encode, found, settings};
use crate::support::{Answer, Client, TestApp, fake};

async fn publish(admin: &Client<'_>, id: ProjectId, subject: &str, en: &str) -> Answer {
    let form = encode(&[("en", en), ("zh", ""), ("action", "publish")]);
    admin
        .post(&format!("/projects/{id}/rules/{subject}"), &form)
        .await
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn changed_guidelines_are_read_before_the_next_task_and_not_before(db: PgPool) {
    let id = fake::project(&db, 3, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let task = ada.open_task().await;
    let admin = app.admin().await;
    let path = format!("/projects/{id}/rules/guidelines");
    let form = encode(&[
        ("en", "# Be fair\r\nAnd **kind**."),
        ("zh", "# 公平"),
        ("action", "preview"),
    ]);
    let preview = admin.post(&path, &form).await;
    assert_eq!(preview.status, StatusCode::OK);
    assert!(
        preview.body.contains("<strong>kind</strong>"),
        "the preview is rendered"
    );
    assert!(
        preview.body.contains("<ins>And **kind**.</ins>"),
        "{}",
        preview.body
    );
    assert!(preview.body.contains("One labeler will be asked"));
    let n = "SELECT count(*) FROM guidelines";
    let count: i64 = sqlx::query_scalar(n).fetch_one(&db).await.unwrap();
    assert_eq!(count, 1, "a preview publishes nothing");
    found(&publish(&admin, id, "guidelines", "# Be fair\nAnd **kind**.").await);
    let same = publish(&admin, id, "guidelines", "# Be fair\nAnd **kind**.").await;
    assert_eq!(same.status, StatusCode::UNPROCESSABLE_ENTITY);

    // The task in hand is finished under the version that it began with.
    assert_eq!(ada.get(&task).await.status, StatusCode::OK);
    let ranking =
        "rank-1=1&rank-2=2&rank-3=3&rank-4=4&note=&action=submit&idempotency_key=k&confirmed=yes";
    let next = ada.post(&task, ranking).await;
    assert!(
        found(&next).starts_with("/guidelines?submitted=in-time#"),
        "{:?}",
        next.location
    );
    let page = ada.get("/guidelines").await;
    assert!(
        page.body
            .contains("since version 1, which you acknowledged")
    );
    assert!(page.body.contains("<ins>And **kind**.</ins>"));
    let home = ada.get("/").await;
    assert!(home.body.contains("Study: new guidelines"), "{}", home.body);
    assert!(found(&ada.post("/work", "").await).starts_with("/guidelines#"));
    let old = format!("project_id={id}&subject=guidelines&version=1");
    let refused = ada.post("/guidelines/acknowledgements", &old).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let new = format!("project_id={id}&subject=guidelines&version=2");
    assert_eq!(
        found(&ada.post("/guidelines/acknowledgements", &new).await),
        "/work"
    );
    assert!(found(&ada.post("/work", "").await).starts_with("/rank/"));
    let versions: Vec<i32> =
        sqlx::query_scalar("SELECT guidelines_version FROM assignments ORDER BY leased_at")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(versions, [1, 2]);

    found(&publish(&admin, id, "guidelines", "# Be fair\nAnd quick.").await);
    let between = admin.get(&format!("{path}?from=1&to=3")).await.body;
    assert!(between.contains("from version 1 to 3") && between.contains("<ins>And quick.</ins>"));
    assert!(!between.contains("<del>And **kind**.</del>"));
    let last = admin.get(&path).await.body;
    assert!(
        last.contains("<del>And **kind**.</del>"),
        "the last two are compared"
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn consent_is_asked_like_guidelines_and_first(db: PgPool) {
    let id = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let admin = app.admin().await;
    let empty = publish(&admin, id, "consent", " ").await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
    found(&publish(&admin, id, "consent", "We keep your **labels**.").await);
    found(&publish(&admin, id, "guidelines", "# Be fairer").await);
    let page = ada.get("/guidelines").await.body;
    let place = |part: &str| page.find(part).unwrap_or_else(|| panic!("no {part}"));
    assert!(place("<strong>labels</strong>") < place("Be fairer"));
    let agree = format!("project_id={id}&subject=consent&version=1");
    let next = ada.post("/guidelines/acknowledgements", &agree).await;
    // There is more to read.
    assert_eq!(found(&next), format!("/guidelines#guidelines-{id}"));
    let read = format!("project_id={id}&subject=guidelines&version=2");
    assert_eq!(
        found(&ada.post("/guidelines/acknowledgements", &read).await),
        "/work"
    );
    assert!(found(&ada.post("/work", "").await).starts_with("/rank/"));
    let rows: Vec<(String, i32)> = sqlx::query_as(
        "SELECT subject, version FROM acknowledgements WHERE account_id = $1 ORDER BY at",
    )
    .bind(ada.account_id.unwrap().0)
    .fetch_all(&db)
    .await
    .unwrap();
    let expected = [("guidelines", 1), ("consent", 1), ("guidelines", 2)];
    assert_eq!(
        rows,
        expected.map(|(subject, version)| (subject.to_owned(), version))
    );
    let none = ada
        .post(
            "/guidelines/acknowledgements",
            &format!("project_id={id}&subject=nothing&version=1"),
        )
        .await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn labelers_are_assigned_by_project_and_language(db: PgPool) {
    let id = fake::project(&db, 2, 4, 1, 3600).await;
    sqlx::query("UPDATE tasks SET language = 'zh'")
        .execute(&db)
        .await
        .unwrap();
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let ada = app.labeler("ada").await;
    let bob = app.labeler("bob").await;
    found(
        &admin
            .post(
                &format!("/projects/{id}"),
                &settings(&[("is_open", "false")]),
            )
            .await,
    );
    let path = format!("/projects/{id}/members");
    // By name, by address, and with a language that fits no task.
    found(
        &admin
            .post(
                &path,
                &encode(&[("who", "ada"), ("languages", "ZH, de"), ("role", "labeler")]),
            )
            .await,
    );
    let wrong = admin
        .post(
            &path,
            &encode(&[("who", "nobody"), ("languages", "klingon"), ("role", "x")]),
        )
        .await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    for field in ["who", "languages", "role"] {
        assert!(
            wrong.body.contains(&format!("href=\"#{field}\"")),
            "{field}"
        );
    }
    assert_eq!(ada.open_task().await.split('/').nth(1), Some("rank"));
    assert_eq!(bob.open_task().await, "/work", "not assigned");
    assert!(
        !bob.get("/guidelines").await.body.contains("Be fair"),
        "not bob's project"
    );
    let form = encode(&[
        ("who", "bob@example.org"),
        ("languages", "en"),
        ("role", "labeler"),
    ]);
    found(&admin.post(&path, &form).await);
    assert_eq!(bob.open_task().await, "/work", "no task in his language");
    assert!(!bob.get("/").await.body.contains("1 to rank"));
    let form = encode(&[
        ("who", "bob@example.org"),
        ("languages", ""),
        ("role", "labeler"),
    ]);
    found(&admin.post(&path, &form).await);
    assert!(bob.open_task().await.starts_with("/rank/"));
    let listed = admin.get(&path).await.body;
    assert!(listed.contains("value=\"zh de\"") && listed.contains("bob@example.org"));

    found(
        &admin
            .post(&format!("{path}/{}/remove", bob.account_id.unwrap()), "")
            .await,
    );
    let again = admin
        .post(&format!("{path}/{}/remove", bob.account_id.unwrap()), "")
        .await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM members")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(left, 1);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_list_of_addresses_assigns_and_invites_whole_or_not_at_all(db: PgPool) {
    let id = fake::project(&db, 0, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    app.labeler("ada").await;
    let path = format!("/projects/{id}/members/import");
    let wrong = "ada@example.org\nnew@example.org, , english\nnew two@example.org\n";
    let refused = admin.post(&path, &encode(&[("lines", wrong)])).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains("Line 2: ") && refused.body.contains("Line 3: "));
    assert!(
        refused.body.contains("new two@example.org"),
        "what was typed stays"
    );
    let members = "SELECT count(*) FROM members";
    let count: i64 = sqlx::query_scalar(members).fetch_one(&db).await.unwrap();
    assert_eq!(count, 0);

    let lines = "Ada@example.org\nnew@example.org, New Person, en zh\n";
    let done = admin.post(&path, &encode(&[("lines", lines)])).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert!(
        done.body.contains("2 people are assigned") && done.body.contains("One has a new account")
    );
    let link = done.body.split("/sign-in/").nth(1).unwrap();
    let link = link.split('<').next().unwrap();
    let signed_in = app.anonymous().post(&format!("/sign-in/{link}"), "").await;
    assert_eq!(signed_in.status, StatusCode::SEE_OTHER);
    let row: (String, Vec<String>, Vec<String>) = sqlx::query_as(
        "SELECT u.name, u.roles, m.languages FROM accounts u JOIN members m ON m.account_id = u.id WHERE u.email = 'new@example.org'",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        row,
        (
            "New Person".to_owned(),
            words(&["labeler"]),
            words(&["en", "zh"])
        )
    );
    assert!(
        !done.body.contains("ada@example.org</td>"),
        "whoever has an account gets no link"
    );
}
