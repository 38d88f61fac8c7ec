//! An admin opens tasks: the count first, then all or nothing, and once.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use server::store;
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{Answer, Client, TestApp, fake};

/// Posts the form as a browser does.
async fn order(admin: &Client<'_>, fields: &[(&str, &str)]) -> Answer {
    let mut body = String::new();
    for (name, value) in [("project", "study"), ("key", "k1")].iter().chain(fields) {
        let file = match *name {
            "file" => "; filename=\"lines.jsonl\"",
            _ => "",
        };
        body += &format!(
            "--frontier\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n"
        );
    }
    body += "--frontier--\r\n";
    let request = admin
        .request("POST", "/tasks/new")
        .header(CONTENT_TYPE, "multipart/form-data; boundary=frontier");
    admin.send(request.body(body.into()).unwrap()).await
}

/// The value of a hidden field of the page.
fn hidden(page: &str, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let found = page.split(&mark).nth(1);
    let found = found.unwrap_or_else(|| panic!("no {name} in {page}"));
    found.split('"').next().unwrap().to_owned()
}

/// Looks first, and opens what was shown; how many were shown.
async fn open(admin: &Client<'_>, fields: &[(&str, &str)]) -> String {
    let preview = order(admin, &[fields, &[("action", "preview")]].concat()).await;
    assert_eq!(preview.status, StatusCode::OK, "{}", preview.body);
    let shown = hidden(&preview.body, "shown");
    let name = hidden(&preview.body, "order");
    let more = [("action", "open"), ("shown", &shown), ("order", &name)];
    let opened = order(admin, &[fields, &more].concat()).await;
    let place = format!("/tasks?project=study&opened={shown}");
    assert_eq!(opened.location, Some(place), "{}", opened.body);
    shown
}

async fn count(db: &PgPool, kind: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM tasks WHERE kind = $1")
        .bind(kind)
        .fetch_one(db)
        .await
        .unwrap()
}

/// Two prompts with five completions each, and one without any.
async fn prompts(db: &PgPool) {
    let project = fake::project(db, 2, 5, 1, 3600).await;
    fake::prompt(db, project, "bare", "Hello").await;
    let chat = "UPDATE prompts SET category = 'chat', language = 'en' WHERE external_id = 'p0'";
    fake::rewrite(db, chat).await;
    sqlx::query(r#"UPDATE projects SET overlap_by_category = '{"chat": 3}'"#)
        .execute(db)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn nothing_is_written_before_the_count_was_shown_and_then_once(db: PgPool) {
    prompts(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let form = admin.get("/tasks/new?project=study").await;
    assert_eq!(form.status, StatusCode::OK);
    let fields = [("work", "review"), ("only_new", "true")];
    // Pressing the second button first only shows.
    let unseen = order(&admin, &[fields.as_slice(), &[("action", "open")]].concat()).await;
    assert!(unseen.body.contains("3 tasks"), "{}", unseen.body);
    assert_eq!(count(&db, "review").await, 0);
    assert_eq!(open(&admin, &fields).await, "3");
    assert_eq!(count(&db, "review").await, 3);
    // The same form sent again changes nothing, by its key.
    let preview = order(
        &admin,
        &[fields.as_slice(), &[("action", "preview")]].concat(),
    )
    .await;
    assert!(preview.body.contains("0 tasks"), "{}", preview.body);
    let again = [
        ("action", "open"),
        ("shown", "3"),
        ("order", &hidden(&unseen.body, "order")),
    ];
    let again = order(&admin, &[fields.as_slice(), &again].concat()).await;
    assert_eq!(
        again.location.as_deref(),
        Some("/tasks?project=study&opened=3")
    );
    assert_eq!(count(&db, "review").await, 3);
    // Once, by whoever opened them.
    assert_eq!(crate::audit::actions(&db).await, ["tasks_opened"]);
    let overlaps: BTreeMap<String, i16> = sqlx::query_as::<_, (String, i16)>(
        "SELECT p.external_id, t.overlap FROM tasks t JOIN prompts p ON p.id = t.prompt_id WHERE t.kind = 'review'",
    )
    .fetch_all(&db)
    .await
    .unwrap()
    .into_iter()
    .collect();
    assert_eq!((overlaps["p0"], overlaps["p1"]), (3, 1));
    let page = admin.get("/tasks?kind=review&opened=3").await.body;
    assert!(
        page.contains("3 tasks were opened") && page.contains("review of a prompt"),
        "{page}"
    );
    assert!(!page.contains(">ranking</td>"), "{page}");
    let wrong = admin.get("/tasks?kind=nonsense").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn another_order_or_another_count_than_was_shown_is_not_opened(db: PgPool) {
    prompts(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let fields = [("work", "review"), ("only_new", "true")];
    let preview = order(
        &admin,
        &[fields.as_slice(), &[("action", "preview")]].concat(),
    )
    .await;
    let name = hidden(&preview.body, "order");
    let press = [("action", "open"), ("shown", "3"), ("order", name.as_str())];
    let other = [("work", "answer"), ("only_new", "true")];
    let refused = order(&admin, &[other.as_slice(), &press].concat()).await;
    assert!(
        refused.body.contains("something else than was shown"),
        "{}",
        refused.body
    );
    let project: Uuid = sqlx::query_scalar("SELECT id FROM projects")
        .fetch_one(&db)
        .await
        .unwrap();
    fake::prompt(&db, server::domain::ids::ProjectId(project), "new", "New").await;
    let refused = order(&admin, &[fields.as_slice(), &press].concat()).await;
    assert!(refused.body.contains("4 tasks"), "{}", refused.body);
    assert!(
        refused.body.contains("something else than was shown"),
        "{}",
        refused.body
    );
    assert_eq!(
        count(&db, "review").await + count(&db, "demonstrate").await,
        0
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn comparisons_are_made_of_all_pairs_of_each_prompt_that_has_enough(db: PgPool) {
    prompts(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let fields = [("work", "compare"), ("only_new", "true"), ("overlap", "2")];
    let preview = order(
        &admin,
        &[fields.as_slice(), &[("action", "preview")]].concat(),
    )
    .await;
    assert!(
        preview.body.contains("<dd>1</dd>"),
        "the bare one is left out: {}",
        preview.body
    );
    assert_eq!(open(&admin, &fields).await, "20");
    let pairs: Vec<(Uuid, Vec<Uuid>, i16, bool)> = sqlx::query_as(
        "SELECT t.prompt_id, array_agg(k.completion_id ORDER BY k.completion_id), t.overlap,
                bool_and(c.prompt_id = t.prompt_id)
         FROM tasks t JOIN candidates k ON k.task_id = t.id JOIN completions c ON c.id = k.completion_id
         WHERE t.kind = 'compare' GROUP BY t.id",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let different: BTreeSet<&Vec<Uuid>> = pairs.iter().map(|(_, pair, ..)| pair).collect();
    assert_eq!((pairs.len(), different.len()), (20, 20));
    assert!(
        pairs
            .iter()
            .all(|(_, pair, overlap, own)| pair.len() == 2 && *overlap == 2 && *own)
    );
    // Those prompts have comparisons now.
    let fields = [
        ("work", "compare"),
        ("only_new", "true"),
        ("pairs", "one"),
        ("key", "k2"),
    ];
    let preview = order(
        &admin,
        &[fields.as_slice(), &[("action", "preview")]].concat(),
    )
    .await;
    assert!(preview.body.contains("0 tasks"), "{}", preview.body);
    let fields = [("work", "compare"), ("pairs", "one"), ("key", "k3")];
    assert_eq!(open(&admin, &fields).await, "2");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn rankings_take_all_completions_or_some_at_random_and_labelers_do_them(db: PgPool) {
    prompts(&db).await;
    sqlx::query("UPDATE tasks SET closed_at = now()")
        .execute(&db)
        .await
        .unwrap();
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let fields = [
        ("work", "rank"),
        ("n_candidates", "4"),
        ("categories", "chat"),
    ];
    assert_eq!(open(&admin, &fields).await, "1");
    let sizes: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM candidates k JOIN tasks t ON t.id = k.task_id WHERE t.opening_id IS NOT NULL GROUP BY t.id",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(sizes, [4]);
    let ada = app.labeler("ada").await;
    assert!(ada.open_task().await.starts_with("/rank/"));
    let few = order(
        &admin,
        &[
            ("work", "rank"),
            ("n_candidates", "3"),
            ("action", "preview"),
        ],
    )
    .await;
    assert_eq!(few.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(few.body.contains("must be 4 to 9"), "{}", few.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn use_cases_come_from_lines_or_a_file_and_known_ones_are_left_out(db: PgPool) {
    prompts(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let file = "{\"use_case\":\"A bakery\\nanswers letters.\",\"language\":\"zh\"}\nA zoo names its animals.\n";
    let fields = [("work", "user_based"), ("only_new", "true"), ("file", file)];
    assert_eq!(open(&admin, &fields).await, "2");
    let tasks: Vec<(Option<String>, serde_json::Value)> = sqlx::query_as(
        "SELECT language, brief FROM tasks WHERE kind = 'demonstrate' ORDER BY sort_key, id",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(tasks[0].0.as_deref(), Some("zh"));
    assert_eq!(tasks[0].1["use_case"], "A bakery\nanswers letters.");
    assert_eq!(tasks[1].0, None);
    let more = "A zoo names its animals.\nA choir plans its year.\nA choir plans its year.";
    let fields = [
        ("work", "user_based"),
        ("only_new", "true"),
        ("texts", more),
        ("key", "k2"),
    ];
    assert_eq!(open(&admin, &fields).await, "1");
    let page = admin.get("/tasks?kind=demonstrate").await.body;
    assert!(
        page.contains("A choir plans its year.") && page.contains("from a use case"),
        "{page}"
    );
    for (fields, said) in [
        (vec![("work", "user_based")], "at least one use case"),
        (vec![("work", "own")], "say how many"),
        (
            vec![("work", "few_shot"), ("texts", "{\"a\": 1}")],
            "line 1: ",
        ),
        (vec![("work", "juggle")], "none of the choices"),
        (vec![("work", "review"), ("most", "many")], "not a number"),
        (
            vec![("work", "review"), ("overlap", "101")],
            "must be 1 to 100",
        ),
    ] {
        let refused = order(&admin, &[fields, vec![("action", "preview")]].concat()).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{said}");
        assert!(refused.body.contains(said), "no {said} in {}", refused.body);
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn only_admins_open_tasks_and_simulated_labelers_pass_over_writing(db: PgPool) {
    prompts(&db).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let fields = [("work", "answer"), ("action", "preview")];
    assert_eq!(order(&ada, &fields).await.status, StatusCode::FORBIDDEN);
    assert_eq!(ada.get("/tasks/new").await.status, StatusCode::FORBIDDEN);
    let admin = app.admin().await;
    assert_eq!(
        open(&admin, &[("work", "answer"), ("language", "en")]).await,
        "1"
    );
    assert_eq!(
        open(
            &admin,
            &[("work", "compare"), ("pairs", "one"), ("key", "k2")]
        )
        .await,
        "2"
    );
    let mut connection = db.acquire().await.unwrap();
    let project = store::projects::find_by_slug(&mut connection, "study")
        .await
        .unwrap()
        .unwrap();
    drop(connection);
    let n = server::commands::simulate::simulate(&db, &project, 1, 0.1, 1, 100)
        .await
        .unwrap();
    assert_eq!(n, 4, "two rankings and two comparisons");
    let path = ada.open_task().await;
    assert!(path.starts_with("/demonstrate/"), "{path}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_of_a_project_opens_its_tasks_and_no_others(db: PgPool) {
    let project = fake::project(&db, 0, 4, 1, 3600).await;
    fake::prompt(&db, project, "p0", "Why?").await;
    let app = TestApp::new(db.clone());
    let paula = app.labeler("paula").await;
    let asked = async |status: StatusCode| {
        let page = paula.get("/tasks/new?project=study").await;
        assert_eq!(page.status, status, "{}", page.body);
    };
    asked(StatusCode::FORBIDDEN).await;
    // Of another project first: this one does not exist for her then.
    let other = uuid::Uuid::now_v7();
    sqlx::query("INSERT INTO projects (id, slug, name, overlap, lease_seconds) VALUES ($1, 'other', 'Other', 1, 3600)")
        .bind(other)
        .execute(&db)
        .await
        .unwrap();
    let appoint = async |project: Uuid| {
        sqlx::query(
            "INSERT INTO members (project_id, account_id, role)
             SELECT $1, id, 'admin' FROM accounts WHERE email LIKE 'paula%'",
        )
        .bind(project)
        .execute(&db)
        .await
        .unwrap();
    };
    appoint(other).await;
    asked(StatusCode::NOT_FOUND).await;
    let fields = [("work", "review"), ("only_new", "true")];
    let refused = order(&paula, &[&fields[..], &[("action", "preview")]].concat()).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND, "{}", refused.body);
    appoint(project.0).await;
    asked(StatusCode::OK).await;
    open(&paula, &fields).await;
    assert_eq!(count(&db, "review").await, 1);
}
