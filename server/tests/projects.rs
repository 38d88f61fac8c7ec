//! What researchers set by page: settings and the order of the queue, the form, guidelines and consent,
//! members; and what each of these does for labelers.

use std::io::Cursor;

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::domain::ids::{CheckpointId, ProjectId};
use server::domain::role::Role;
use server::domain::snapshot::{Selection, SnapshotKind};
use server::exchange::export::create_snapshot;
use server::exchange::import::{FileFormat, import};
use server::exchange::records::ImportKind;
use server::store;
use sqlx::PgPool;

use crate::support::{Answer, Client, TestApp, fake};

/// A settings form with some fields changed.
fn settings(changes: &[(&str, &str)]) -> String {
    let defaults = [
        ("name", "Study"),
        ("candidates", "4"),
        ("overlap", "1"),
        ("lease_seconds", "3600"),
        ("least_seconds", "10"),
        ("gold_percent", "0"),
        ("repeat_percent", "0"),
        ("repeat_after_days", "7"),
        ("evaluation_percent", "20"),
        ("next_task", "oldest"),
        ("is_open", "true"),
    ];
    let mut fields: Vec<(&str, &str)> = defaults.to_vec();
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.push((name, value));
    }
    encode(&fields)
}

/// Fields as a browser sends them.
pub(crate) fn encode(fields: &[(&str, &str)]) -> String {
    let mut url = reqwest::Url::parse("http://localhost/").unwrap();
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

fn found(answer: &Answer) -> &str {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    answer.location.as_deref().unwrap()
}

async fn import_candidates(db: &PgPool, lines: &str) {
    let mut transaction = db.begin().await.unwrap();
    let project = store::projects::find_by_slug(&mut transaction, "study")
        .await
        .unwrap()
        .unwrap();
    let source = Cursor::new(lines.as_bytes().to_vec());
    let (kind, format) = (ImportKind::Candidates, FileFormat::Jsonl);
    let report = import(&mut transaction, &project, kind, format, source)
        .await
        .unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    transaction.commit().await.unwrap();
}

fn candidates(id: &str, category: &str) -> String {
    let completions = ["a", "b", "c", "d"].map(|text| json!({"text": text, "model": "m"}));
    let line = json!({"id": id, "prompt": id, "category": category, "completions": completions});
    format!("{line}\n")
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_makes_a_project_and_changes_its_settings(db: PgPool) {
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    assert_eq!(admin.get("/projects/new").await.status, StatusCode::OK);
    let wrong = format!("slug=A%20b&{}", settings(&[("overlap", "0"), ("name", "")]));
    let refused = admin.post("/projects", &wrong).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    for id in ["slug", "overlap", "name"] {
        assert!(refused.body.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    let made = admin
        .post("/projects", &format!("slug=pilot&{}", settings(&[])))
        .await;
    let path = found(&made).to_owned();
    let taken = admin
        .post("/projects", &format!("slug=pilot&{}", settings(&[])))
        .await;
    assert_eq!(taken.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(taken.body.contains("another project has this short name"));

    let form = settings(&[
        ("name", "The pilot"),
        ("candidates", "6"),
        ("gold_percent", "2.5"),
        ("overlap_chat", "3"),
        ("is_open", "false"),
    ]);
    let saved = admin.post(&path, &form).await;
    let page = admin.get(found(&saved)).await;
    assert!(page.body.contains("Saved.") && page.body.contains("value=\"2.5\""));
    let row: (String, i16, f32, Value, bool) = sqlx::query_as(
        "SELECT name, candidates, gold_share, overlap_by_category, is_open FROM projects",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(
        row,
        ("The pilot".to_owned(), 6, 0.025, json!({"chat": 3}), false)
    );

    let refused = admin
        .post(
            &path,
            &settings(&[("lease_seconds", "604801"), ("overlap_chat", "x")]),
        )
        .await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains("must be 1 to 604800"));
    assert!(
        refused
            .body
            .contains("Labelers of a task, chat: this is not a number")
    );
    // What was typed is still there, and nothing was changed.
    assert!(refused.body.contains("value=\"604801\""));
    let name: String = sqlx::query_scalar("SELECT name FROM projects")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(name, "The pilot");
    // A project of the page has the standard form from the beginning.
    let versions: Vec<i32> = sqlx::query_scalar("SELECT version FROM forms")
        .fetch_all(&db)
        .await
        .unwrap();
    assert_eq!(versions, [1]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_page_of_a_new_project_shows_what_the_table_begins_with(db: PgPool) {
    let id = fake::project(&db, 0, 4, 1, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let found = store::projects::find_settings(&mut connection, id)
        .await
        .unwrap()
        .unwrap();
    let new = store::projects::Settings::new("Study");
    assert_eq!(format!("{found:?}"), format!("{new:?}"));
}

/// Prompts in the order of the queue, with the reason for their place.
async fn queue(db: &PgPool) -> Vec<(String, String)> {
    sqlx::query_as(
        "SELECT p.external_id, t.chosen_by FROM tasks t JOIN prompts p ON p.id = t.prompt_id
         WHERE t.closed_at IS NULL ORDER BY t.sort_key, t.id",
    )
    .fetch_all(db)
    .await
    .unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_order_of_the_queue_can_be_drawn_and_undone(db: PgPool) {
    let id = fake::project(&db, 40, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let by_age = queue(&db).await;
    let path = format!("/projects/{id}");
    found(
        &admin
            .post(&path, &settings(&[("next_task", "random")]))
            .await,
    );
    let drawn = queue(&db).await;
    assert!(drawn.iter().all(|(_, why)| why == "random"));
    let ids = |queue: &[(String, String)]| -> Vec<String> {
        queue.iter().map(|one| one.0.clone()).collect()
    };
    assert_ne!(ids(&drawn), ids(&by_age));
    let mut sorted = (ids(&drawn), ids(&by_age));
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);

    // The first of the queue is what a labeler gets.
    let ada = app.labeler("ada").await;
    let task = ada.open_task().await;
    let prompt: String = sqlx::query_scalar("SELECT p.external_id FROM assignments a JOIN tasks t ON t.id = a.task_id JOIN prompts p ON p.id = t.prompt_id")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(prompt, drawn[0].0, "{task}");

    // Those that come later fall into their places of the same order, and do not move the others.
    let more: String = (0..20)
        .map(|n| candidates(&format!("new-{n}"), "chat"))
        .collect();
    import_candidates(&db, &more).await;
    let mixed = ids(&queue(&db).await);
    let last_old = mixed.iter().rposition(|id| id.starts_with('p')).unwrap();
    let first_new = mixed.iter().position(|id| id.starts_with("new")).unwrap();
    assert!(first_new < last_old, "new tasks stand behind all others");
    let old: Vec<String> = mixed
        .iter()
        .filter(|id| id.starts_with('p'))
        .cloned()
        .collect();
    assert_eq!(old, ids(&drawn));

    // Where disagreement was measured, its places are kept; those that were drawn go by age.
    sqlx::query("UPDATE tasks SET chosen_by = 'informative', sort_key = -1 WHERE id = (SELECT id FROM tasks ORDER BY id DESC LIMIT 1)")
        .execute(&db)
        .await
        .unwrap();
    found(
        &admin
            .post(&path, &settings(&[("next_task", "informative")]))
            .await,
    );
    let informative = queue(&db).await;
    assert_eq!(
        informative[0],
        ("new-19".to_owned(), "informative".to_owned())
    );
    assert!(informative[1..].iter().all(|(_, why)| why == "oldest"));
    found(&admin.post(&path, &settings(&[])).await);
    let again = queue(&db).await;
    assert!(again.iter().all(|(_, why)| why == "oldest"));
    assert_eq!(ids(&again)[..40], ids(&by_age)[..]);
    found(
        &admin
            .post(&path, &settings(&[("next_task", "random")]))
            .await,
    );
    assert_eq!(ids(&queue(&db).await), mixed, "the order is drawn once");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_draw_of_tasks_is_uniform(db: PgPool) {
    // Of 10,000 keys each tenth has 1,000 but for chance; 100 is more than three deviations.
    let counts: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM generate_series(1, 10000) n GROUP BY floor(10 * random_key(md5(n::text)::uuid))",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(counts.len(), 10);
    assert!(counts.iter().all(|n| (n - 1000).abs() < 100), "{counts:?}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_new_task_has_the_overlap_of_its_category(db: PgPool) {
    let id = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let form = settings(&[
        ("overlap", "2"),
        ("overlap_chat", "3"),
        ("overlap_extract", "5"),
    ]);
    found(&admin.post(&format!("/projects/{id}"), &form).await);
    let lines = [("a", "chat"), ("b", "extract"), ("c", "rewrite")];
    let lines: String = lines
        .map(|(id, category)| candidates(id, category))
        .concat();
    import_candidates(&db, &lines).await;
    let overlaps: Vec<(String, i16)> = sqlx::query_as(
        "SELECT p.external_id, t.overlap FROM tasks t JOIN prompts p ON p.id = t.prompt_id ORDER BY 1",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let expected = [("a", 3), ("b", 5), ("c", 2), ("p0", 1)];
    assert_eq!(overlaps, expected.map(|(id, n)| (id.to_owned(), n)));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_generation_run_follows_the_project_where_it_says_nothing_else(db: PgPool) {
    let id = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let form = settings(&[("candidates", "6"), ("overlap", "3")]);
    found(&admin.post(&format!("/projects/{id}"), &form).await);
    let selection = Selection {
        project_id: id,
        kind: SnapshotKind::Prompts,
        name: "all".to_owned(),
        categories: Vec::new(),
        include_simulated: false,
        reviewed_categories: false,
        include_personal: false,
        labels: server::domain::snapshot::Labels::default(),
        filters: server::domain::snapshot_filters::Filters::default(),
    };
    let snapshot = create_snapshot(&db, &selection, None).await.unwrap();
    let base = CheckpointId::new();
    sqlx::query("INSERT INTO checkpoints (id, kind, name, path, architecture, n_parameters, sha256) VALUES ($1, 'base', 'none', '/nowhere', 'LlamaForCausalLM', 1, '')")
        .bind(base.0)
        .execute(&db)
        .await
        .unwrap();
    let operator = app.operator().await;
    for typed in [
        "candidates=&overlap=",
        "candidates=5&overlap=2",
        "settings=%7B%22candidates%22%3A%207%7D",
    ] {
        let form = format!("kind=generation&name=g&snapshot={snapshot}&base={base}&{typed}");
        found(&operator.post("/runs", &form).await);
    }
    let configs: Vec<(Value, Option<Value>)> =
        sqlx::query_as("SELECT config -> 'candidates', config -> 'overlap' FROM runs ORDER BY id")
            .fetch_all(&db)
            .await
            .unwrap();
    let expected = [
        (json!(6), None),
        (json!(5), Some(json!(2))),
        (json!(7), None),
    ];
    assert_eq!(configs, expected);
}

/// The fields of the form on a page, as a browser would send them.
fn fields_of(body: &str, form: &str) -> Vec<(String, String)> {
    let page = scraper::Html::parse_document(body);
    let inputs =
        scraper::Selector::parse(&format!("{form} input[name], {form} textarea[name]")).unwrap();
    let read = page.select(&inputs).filter_map(|input| {
        let value = |name: &str| input.value().attr(name).unwrap_or_default().to_owned();
        let is_choice = matches!(input.value().attr("type"), Some("radio" | "checkbox"));
        if is_choice && input.value().attr("checked").is_none() {
            return None;
        }
        Some((value("name"), value("value")))
    });
    read.collect()
}

/// Presses a button of the form editor with some fields changed.
async fn press(
    admin: &Client<'_>,
    path: &str,
    body: &str,
    action: &str,
    changes: &[(&str, &str)],
) -> Answer {
    let mut fields = fields_of(body, "#form");
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.push(((*name).to_owned(), (*value).to_owned()));
    }
    fields.push(("action".to_owned(), action.to_owned()));
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    admin.post(path, &encode(&fields)).await
}

async fn newest_form(db: &PgPool) -> (i32, Value) {
    sqlx::query_as("SELECT version, fields FROM forms ORDER BY version DESC LIMIT 1")
        .fetch_one(db)
        .await
        .unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_form_is_edited_as_rows_and_old_labels_keep_theirs(db: PgPool) {
    let id = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let task = ada.open_task().await;
    let admin = app.admin().await;
    let path = format!("/projects/{id}/form");
    let page = admin.get(&path).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);

    // Nothing was touched, so there is nothing to publish.
    let same = press(&admin, &path, &page.body, "publish", &[]).await;
    assert!(
        same.body.contains("Nothing differs from version 1"),
        "{}",
        same.body
    );
    // A row more, one up, one away; nothing is kept yet.
    let page = press(&admin, &path, &page.body, "scales-add", &[]).await;
    let page = press(
        &admin,
        &path,
        &page.body,
        "flags-up-1",
        &[("scales-0-key", "truthful")],
    )
    .await;
    let page = press(&admin, &path, &page.body, "flags-remove-10", &[]).await;
    assert_eq!(newest_form(&db).await.0, 1);
    // The new scale says nothing yet: every wrong field is named, and what was typed stays.
    let wrong = press(&admin, &path, &page.body, "publish", &[]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    for id in ["scales-0-label-en", "scales-0-min"] {
        assert!(wrong.body.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    assert!(wrong.body.contains("value=\"truthful\""));
    let scale = [
        ("scales-0-min", "1"),
        ("scales-0-max", "5"),
        ("scales-0-label-en", "How true it is"),
        ("scales-0-label-zh", "真实程度"),
    ];
    let done = press(&admin, &path, &wrong.body, "publish", &scale).await;
    assert_eq!(found(&done), format!("{path}#versions"));
    let (version, form) = newest_form(&db).await;
    assert_eq!(
        (version, &form["scales"][0]["key"]),
        (2, &json!("truthful"))
    );
    assert_eq!(form["scales"][0]["label"]["zh"], "真实程度");
    assert_eq!(
        form["flags"][0]["key"],
        "inappropriate_for_customer_assistant"
    );
    assert_eq!(form["flags"].as_array().unwrap().len(), 10);

    // Ada's task began under version 1 and ends under it.
    assert!(!ada.get(&task).await.body.contains("How true it is"));
    let ranking =
        "rank-1=1&rank-2=2&rank-3=3&rank-4=4&note=&action=submit&idempotency_key=k&confirmed=yes";
    found(&ada.post(&task, ranking).await);
    let under: Vec<i32> =
        sqlx::query_scalar("SELECT form_version FROM assignments WHERE status = 'submitted'")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(under, [1]);
    let listed = admin.get(&path).await.body;
    assert!(
        listed.contains("Further scales · truthful: new"),
        "{listed}"
    );
    assert!(
        listed.contains("expresses_moral_judgment: removed") && listed.contains("another order")
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_key_never_changes_its_meaning_unseen(db: PgPool) {
    let id = fake::project(&db, 0, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let path = format!("/projects/{id}/form");
    let page = admin.get(&path).await;
    let other = [("flags-2-label-en", "Invents a source")];
    let warned = press(&admin, &path, &page.body, "publish", &other).await;
    assert_eq!(warned.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        warned
            .body
            .contains("“Makes something up” becomes “Invents a source”")
    );
    assert_eq!(newest_form(&db).await.0, 1);
    let confirmed = press(
        &admin,
        &path,
        &warned.body,
        "publish",
        &[("same_meaning", "yes")],
    )
    .await;
    found(&confirmed);
    assert_eq!(
        newest_form(&db).await.1["flags"][2]["label"]["en"],
        "Invents a source"
    );

    // Taken away and brought back with other words, it is still the key of older labels.
    let page = admin.get(&path).await;
    let page = press(&admin, &path, &page.body, "flags-remove-0", &[]).await;
    found(&press(&admin, &path, &page.body, "publish", &[]).await);
    let page = admin.get(&path).await;
    let page = press(&admin, &path, &page.body, "flags-add", &[]).await;
    let back = [
        ("flags-10-key", "fails_instruction"),
        ("flags-10-label-en", "Late"),
    ];
    let warned = press(&admin, &path, &page.body, "publish", &back).await;
    assert_eq!(warned.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(warned.body.contains("becomes “Late”"), "{}", warned.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_form_that_was_published_meanwhile_is_not_overwritten_unseen(db: PgPool) {
    let id = fake::project(&db, 0, 4, 1, 3600).await;
    // A part that this page does not edit.
    sqlx::query("INSERT INTO forms (project_id, version, fields) SELECT project_id, 2, fields || '{\"of_another_page\": [1]}' FROM forms")
        .execute(&db)
        .await
        .unwrap();
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let path = format!("/projects/{id}/form");
    let page = admin.get(&path).await;
    let first = press(
        &admin,
        &path,
        &page.body,
        "publish",
        &[("flags-0-help-en", "First")],
    )
    .await;
    found(&first);
    let second = press(
        &admin,
        &path,
        &page.body,
        "publish",
        &[("flags-1-help-en", "Second")],
    )
    .await;
    assert_eq!(second.status, StatusCode::CONFLICT);
    assert!(
        second.body.contains("published version 3 since")
            && second.body.contains("value=\"Second\"")
    );
    assert_eq!(newest_form(&db).await.0, 3);
    found(&press(&admin, &path, &second.body, "publish", &[]).await);
    let (version, form) = newest_form(&db).await;
    assert_eq!((version, &form["of_another_page"]), (4, &json!([1])));
}

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
        found(&next).starts_with("/guidelines#"),
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

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_archived_project_is_out_of_sight_and_comes_back_whole(db: PgPool) {
    let id = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let ada = app.labeler("ada").await;
    let path = format!("/projects/{id}/archived");
    found(&admin.post(&path, "archived=true").await);
    assert_eq!(ada.open_task().await, "/work");
    assert!(!ada.get("/guidelines").await.body.contains("Be fair"));
    assert!(
        ada.get("/")
            .await
            .body
            .contains("Nothing is waiting for you")
    );
    assert!(admin.get("/projects").await.body.contains("archived"));
    assert_eq!(
        admin.get(&format!("/projects/{id}")).await.status,
        StatusCode::OK
    );
    let robot = app.program("robot", &[Role::Labeler]).await;
    assert_eq!(robot.get("/api/v1/projects").await.json(), json!([]));
    found(&admin.post(&path, "archived=false").await);
    assert!(ada.open_task().await.starts_with("/rank/"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_closed_task_is_opened_again_in_its_place(db: PgPool) {
    let id = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let tasks: Vec<(uuid::Uuid,)> = sqlx::query_as("SELECT id FROM tasks ORDER BY sort_key")
        .fetch_all(&db)
        .await
        .unwrap();
    for (task,) in &tasks {
        found(&admin.post(&format!("/tasks/{task}/close"), "").await);
    }
    let ada = app.labeler("ada").await;
    assert_eq!(ada.open_task().await, "/work");
    // The order changes while both are closed; what is opened again follows it.
    found(
        &admin
            .post(
                &format!("/projects/{id}"),
                &settings(&[("next_task", "random")]),
            )
            .await,
    );
    let page = admin.get("/tasks?state=closed").await.body;
    assert!(page.contains("/reopen"));
    assert_eq!(
        found(
            &admin
                .post(&format!("/tasks/{}/reopen", tasks[1].0), "")
                .await
        ),
        "/tasks?project=study"
    );
    assert_eq!(queue(&db).await, [("p1".to_owned(), "random".to_owned())]);
    assert!(ada.open_task().await.starts_with("/rank/"));
    let unknown = admin.post(&format!("/tasks/{id}/reopen"), "").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}
