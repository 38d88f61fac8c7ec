//! The audit log: every deed with its transaction, nothing that can be changed, no secret in it.

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::domain::audit::AuditAction;
use server::domain::ids::{AuditEventId, SnapshotId};
use server::domain::role::Role;
use server::store;
use server::store::audit_events::NewEvent;
use sqlx::PgPool;

use crate::projects::encode;
use crate::support::{Client, TestApp, fake};

/// Action, who, project and details of each event but sign-ins, oldest first.
async fn events(db: &PgPool) -> Vec<(String, Option<String>, Option<String>, Value)> {
    sqlx::query_as(
        "SELECT e.action, u.name, p.slug, e.data FROM audit_events e
         LEFT JOIN accounts u ON u.id = e.account_id LEFT JOIN projects p ON p.id = e.project_id
         WHERE e.action <> 'sign_in' ORDER BY e.id",
    )
    .fetch_all(db)
    .await
    .unwrap()
}

/// The actions of each event but sign-ins, oldest first.
pub(crate) async fn actions(db: &PgPool) -> Vec<String> {
    events(db).await.into_iter().map(|event| event.0).collect()
}

async fn ok(client: &Client<'_>, path: &str, form: &str) {
    let answer = client.post(path, form).await;
    let is_fine = [StatusCode::OK, StatusCode::SEE_OTHER].contains(&answer.status);
    assert!(is_fine, "{path}: {} {}", answer.status, answer.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_admins_do_is_logged_with_who_and_where(db: PgPool) {
    let id = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let settings = "name=Study&candidates=5&overlap=1&lease_seconds=3600&least_seconds=10&gold_percent=0&repeat_percent=0\
        &repeat_after_days=7&evaluation_percent=20&next_task=oldest&is_open=true";
    let project = format!("/projects/{id}");
    ok(&admin, &project, settings).await;
    // The same again changes nothing, so nothing is told.
    ok(&admin, &project, settings).await;
    let rules = encode(&[("en", "# Secret rules"), ("action", "publish")]);
    ok(&admin, &format!("{project}/rules/guidelines"), &rules).await;
    ok(&admin, &format!("{project}/rules/consent"), &rules).await;
    ok(
        &admin,
        "/accounts",
        "email=ada%40example.org&name=Ada&roles=labeler",
    )
    .await;
    let ada: uuid::Uuid = sqlx::query_scalar("SELECT id FROM accounts WHERE name = 'Ada'")
        .fetch_one(&db)
        .await
        .unwrap();
    ok(
        &admin,
        &format!("/accounts/{ada}/roles"),
        "roles=labeler&roles=operator",
    )
    .await;
    ok(
        &admin,
        &format!("/accounts/{ada}/disabled"),
        "disabled=true",
    )
    .await;
    ok(
        &admin,
        &format!("/accounts/{ada}/disabled"),
        "disabled=false",
    )
    .await;
    ok(&admin, &format!("/accounts/{ada}/link"), "").await;
    let who = encode(&[("who", "Ada"), ("languages", "en"), ("role", "labeler")]);
    ok(&admin, &format!("{project}/members"), &who).await;
    ok(&admin, &format!("{project}/members/{ada}/remove"), "").await;
    let task: uuid::Uuid = sqlx::query_scalar("SELECT id FROM tasks")
        .fetch_one(&db)
        .await
        .unwrap();
    ok(&admin, &format!("/tasks/{task}/close"), "").await;
    ok(&admin, &format!("/tasks/{task}/reopen"), "").await;
    ok(&admin, &format!("{project}/archived"), "archived=true").await;
    ok(&admin, &format!("{project}/archived"), "archived=false").await;
    ok(&admin, "/account/tokens", "label=laptop").await;
    let token: uuid::Uuid = sqlx::query_scalar("SELECT id FROM api_tokens")
        .fetch_one(&db)
        .await
        .unwrap();
    ok(&admin, &format!("/account/tokens/{token}/revoke"), "").await;
    ok(
        &admin,
        "/snapshots",
        &encode(&[("project", "study"), ("name", "all"), ("kind", "prompts")]),
    )
    .await;
    let told = events(&db).await;
    let expected = [
        (
            "settings_changed",
            json!({"candidates": {"from": "4", "to": "5"}}),
        ),
        ("guidelines_published", json!({"version": 2})),
        ("consent_published", json!({"version": 1})),
        ("account_created", json!({"roles": ["labeler"]})),
        ("link_created", json!({})),
        (
            "account_roles",
            json!({"roles": {"from": ["labeler"], "to": ["labeler", "operator"]}}),
        ),
        ("account_off", json!({})),
        ("account_on", json!({})),
        ("link_created", json!({})),
        (
            "member_assigned",
            json!({"role": "labeler", "languages": ["en"]}),
        ),
        ("member_removed", json!({})),
        ("task_closed", json!({})),
        ("task_reopened", json!({})),
        ("project_archived", json!({})),
        ("project_restored", json!({})),
        ("token_created", json!({"label": "laptop"})),
        ("token_revoked", json!({})),
        ("snapshot_taken", json!({"items": 1})),
    ];
    let short: Vec<(&str, Value)> = told
        .iter()
        .map(|event| (event.0.as_str(), event.3.clone()))
        .collect();
    assert_eq!(short, expected);
    for (action, who, project, _) in &told {
        assert_eq!(who.as_deref(), Some("admin"), "{action}");
        let is_of_project = !action.starts_with("account")
            && !action.starts_with("link")
            && !action.starts_with("token");
        assert_eq!(
            project.as_deref(),
            is_of_project.then_some("study"),
            "{action}"
        );
    }
    let page = admin.get("/audit").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(
        !page.body.contains("Secret rules"),
        "a text stands in the log"
    );
    assert!(page.body.contains("changed settings") && page.body.contains("4 → 5"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn signing_in_is_logged_and_what_was_typed_is_not(db: PgPool) {
    let app = TestApp::new(db.clone());
    let mut connection = db.acquire().await.unwrap();
    let ada = store::accounts::insert(
        &mut connection,
        "ada@example.org",
        "Ada",
        &[Role::Labeler],
        false,
    )
    .await
    .unwrap();
    let hash = server::auth::password::hash("correct horse battery".to_owned())
        .await
        .unwrap();
    store::accounts::set_password(&mut connection, ada, &hash)
        .await
        .unwrap();
    let anonymous = app.anonymous();
    for (email, password) in [
        ("ada@example.org", "wrong horse"),
        ("hunter2@example.org", "wrong"),
        ("ada@example.org", "correct horse battery"),
    ] {
        anonymous
            .post(
                "/sign-in",
                &encode(&[("email", email), ("password", password)]),
            )
            .await;
    }
    let link = store::sign_in_links::create(&mut connection, ada, None, 1)
        .await
        .unwrap();
    let path = format!("/sign-in/{}", link.reveal());
    anonymous
        .post(&path, &encode(&[("password", "another long one")]))
        .await;
    let rows: Vec<(String, Option<uuid::Uuid>, Value)> =
        sqlx::query_as("SELECT action, account_id, data FROM audit_events ORDER BY id")
            .fetch_all(&db)
            .await
            .unwrap();
    let expected = [
        ("sign_in_failed", Some(ada.0), json!({})),
        ("sign_in_failed", None, json!({})),
        ("sign_in", Some(ada.0), json!({"by": "password"})),
        ("password_set", Some(ada.0), json!({})),
        ("sign_in", Some(ada.0), json!({"by": "link"})),
    ];
    let expected = expected.map(|(action, who, data)| (action.to_owned(), who, data));
    assert_eq!(rows, expected);
    let told: String = sqlx::query_scalar("SELECT string_agg(e::text, ' ') FROM audit_events e")
        .fetch_one(&db)
        .await
        .unwrap();
    for secret in ["hunter2", "wrong", "horse", link.reveal()] {
        assert!(!told.contains(secret), "{secret} stands in {told}");
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_export_is_logged_before_its_first_byte_and_a_refused_import_is_not(db: PgPool) {
    let id = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    ok(
        &admin,
        "/snapshots",
        &encode(&[("project", "study"), ("name", "all"), ("kind", "prompts")]),
    )
    .await;
    let snapshot: uuid::Uuid = sqlx::query_scalar("SELECT id FROM snapshots")
        .fetch_one(&db)
        .await
        .unwrap();
    let snapshot = SnapshotId(snapshot);
    // The answer's head has come, and nobody has read the body.
    let request = admin.request("GET", &format!("/snapshots/{snapshot}/export"));
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = admin.open(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(actions(&db).await, ["snapshot_taken", "export"]);
    drop(response);
    let told = events(&db).await;
    assert_eq!(told[1].3, json!({"format": "prompts", "items": 1}));
    let wrong = admin
        .get(&format!("/snapshots/{snapshot}/export?format=hh"))
        .await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(actions(&db).await.len(), 2, "what was refused was logged");

    let import = async |line: &str| {
        let part = |name: &str, value: &str| {
            format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let parts = [
            part("project", "study"),
            part("kind", "prompts"),
            part("lines", line),
        ];
        let body = format!("{}--B--\r\n", parts.concat());
        let request = admin
            .request("POST", "/prompts/import")
            .header("content-type", "multipart/form-data; boundary=B");
        admin
            .send(request.body(axum::body::Body::from(body)).unwrap())
            .await
            .status
    };
    assert_eq!(
        import("{\"id\":\"x\"}").await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(actions(&db).await.len(), 2, "nothing was imported");
    assert_eq!(
        import("{\"id\":\"x\",\"prompt\":\"A text.\"}").await,
        StatusCode::OK
    );
    let told = events(&db).await;
    let last = told.last().unwrap();
    assert_eq!(
        (last.0.as_str(), &last.3),
        ("import", &json!({"kind": "prompts", "records": 1}))
    );
    assert_eq!(last.2.as_deref(), Some("study"), "{id}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn nothing_in_the_log_is_changed_or_deleted_by_anybody(db: PgPool) {
    let app = TestApp::new(db.clone());
    app.admin().await;
    for statement in [
        "UPDATE audit_events SET data = '{}'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "TRUNCATE accounts CASCADE",
        "DELETE FROM accounts",
    ] {
        let refused = sqlx::query(statement).execute(&db).await;
        assert!(refused.is_err(), "{statement}");
    }
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_events")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(n, 1);
    // What is rolled back leaves nothing.
    let mut transaction = db.begin().await.unwrap();
    let event = NewEvent::by_nobody(AuditAction::Import);
    store::audit_events::record(&mut transaction, event)
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_events")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(n, 1);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_log_is_narrowed_by_person_action_project_and_time_and_read_page_by_page(db: PgPool) {
    let id = fake::project(&db, 0, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let ada = app.labeler("ada").await.account_id.unwrap();
    let mut transaction = db.begin().await.unwrap();
    for n in 0..250 {
        let action = if n % 2 == 0 {
            AuditAction::TaskClosed
        } else {
            AuditAction::TaskReopened
        };
        let event = NewEvent::by(ada, action).within(id).with(json!({"n": n}));
        store::audit_events::record(&mut transaction, event)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
    // One of long ago.
    sqlx::query("INSERT INTO audit_events (id, at, action, data) VALUES ($1, '2020-02-03 04:05:06Z', 'import', '{\"n\": -1}')")
        .bind(AuditEventId(uuid::Uuid::from_u128(1)).0)
        .execute(&db)
        .await
        .unwrap();
    let rows = |body: &str| body.matches("<tr role=\"row\">").count() - 1;
    let first = admin
        .get(&format!("/audit?account={ada}&action=task_closed"))
        .await
        .body;
    assert_eq!(rows(&first), 100);
    let next = first.split("name=\"before\" value=\"").nth(1).unwrap();
    let next = next.split('"').next().unwrap();
    let second = admin
        .get(&format!(
            "/audit?account={ada}&action=task_closed&before={next}"
        ))
        .await
        .body;
    assert_eq!(rows(&second), 25);
    assert!(first.contains("</span> 248<") && second.contains("</span> 0<"));
    let of_day = admin.get("/audit?from=2020-02-03&to=2020-02-03").await.body;
    assert_eq!(rows(&of_day), 1);
    assert!(of_day.contains("2020-02-03 04:05:06 UTC"));
    let none = admin.get("/audit?to=2020-02-02").await.body;
    assert!(none.contains("Nothing matches."));
    assert_eq!(
        rows(&admin.get(&format!("/audit?project={id}")).await.body),
        100
    );
    let wrong = admin.get("/audit?account=ada&from=yesterday").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);

    let export = admin
        .get(&format!("/audit/export?project={id}&action=task_reopened"))
        .await;
    assert_eq!(
        export.headers["content-type"],
        "application/x-ndjson; charset=utf-8"
    );
    let lines: Vec<Value> = export
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 125);
    assert_eq!(
        (&lines[0]["data"]["n"], &lines[124]["data"]["n"]),
        (&json!(1), &json!(249))
    );
    assert_eq!(lines[0]["account"], json!({"id": ada, "name": "ada"}));
    assert_eq!(lines[0]["project"]["name"], "Study");
    let whole = admin.get("/audit/export").await.body;
    let last: Value = serde_json::from_str(whole.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["action"], &last["subject"]["kind"]),
        (&json!("export"), &json!("audit"))
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_the_command_line_does_is_logged_without_a_person(db: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str]| {
        let mut command = crate::support::program::command(&db, folder.path());
        command.args(arguments).current_dir(folder.path());
        let done = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    std::fs::write(
        folder.path().join("p.jsonl"),
        "{\"id\":\"a\",\"prompt\":\"x\"}\n",
    )
    .unwrap();
    run(&[
        "import",
        "--project",
        "new",
        "--create",
        "--kind",
        "prompts",
        "p.jsonl",
    ])
    .await;
    run(&[
        "export",
        "--project",
        "new",
        "--kind",
        "prompts",
        "--out",
        "out.jsonl",
    ])
    .await;
    run(&["user", "add", "ada@example.org", "--role", "labeler"]).await;
    run(&["user", "token", "ada@example.org"]).await;
    let told = events(&db).await;
    let actions: Vec<&str> = told.iter().map(|event| event.0.as_str()).collect();
    assert_eq!(
        actions,
        [
            "project_created",
            "import",
            "snapshot_taken",
            "export",
            "account_created",
            "link_created",
            "token_created"
        ]
    );
    assert!(
        told.iter()
            .all(|event| event.1.is_none() && event.3["by"] == "command line")
    );
}
