//! Adjudication: conflicting rankings are found, the worst first, and a decision between them is a label of
//! its own that snapshots take in their place.

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::domain::ids::{ProjectId, SnapshotId, TaskId};
use server::domain::role::Role;
use server::domain::snapshot::{Labels, Selection, SnapshotKind};
use server::exchange::export::{create_snapshot, write_snapshot};
use server::exchange::import::{FileFormat, import};
use server::exchange::records::ImportKind;
use server::store;
use server::store::adjudication::Filter;
use sqlx::PgPool;

use crate::exporting;
use crate::gold::{lease, submit, tasks};
use crate::support::{Client, TestApp, fake};

/// Lets labelers rank the tasks in their order, and returns the labelers.
async fn label<'app>(
    app: &'app TestApp,
    db: &PgPool,
    project: ProjectId,
    rankings: &[(&str, &[[i16; 4]])],
) -> Vec<Client<'app>> {
    let mut labelers = Vec::new();
    for (name, of_tasks) in rankings {
        let by = app.program(name, &[Role::Labeler]).await;
        for ranks in *of_tasks {
            let (id, _) = lease(db, project, by.account_id.unwrap(), "label")
                .await
                .unwrap();
            submit(db, &by, id, ranks, json!({"0": {"hallucination": true}})).await;
        }
        labelers.push(by);
    }
    labelers
}

async fn cases(db: &PgPool, project: ProjectId, filter: &Filter) -> Vec<(TaskId, i32, i32)> {
    let mut connection = db.acquire().await.unwrap();
    let found = store::adjudication::list(&mut connection, project, filter, 0, 10)
        .await
        .unwrap();
    let case = |case: store::adjudication::Case| (case.task_id, case.n_conflicts, case.n_pairs);
    found.into_iter().map(case).collect()
}

/// The form of a decision with these ranks by slot.
fn decision(ranks: &[i16], key: &str) -> String {
    let mut form = format!("idempotency_key={key}&note=so+it+is");
    for (index, rank) in ranks.iter().enumerate() {
        form += &format!("&rank-{}={rank}", index + 1);
    }
    form
}

/// A task that is given to one labeler may have two labels, whichever of them is the late one.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_label_that_contradicts_a_late_one_before_it_is_a_conflict(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.program("ada", &[Role::Labeler]).await;
    let bob = app.program("bob", &[Role::Labeler]).await;
    let (late, task) = lease(&db, project, ada.account_id.unwrap(), "label")
        .await
        .unwrap();
    sqlx::query("UPDATE assignments SET lease_until = now() - interval '1 second'")
        .execute(&db)
        .await
        .unwrap();
    let (in_time, _) = lease(&db, project, bob.account_id.unwrap(), "label")
        .await
        .unwrap();
    submit(&db, &ada, late, &[1, 2, 3, 4], json!({})).await;
    assert_eq!(cases(&db, project, &Filter::default()).await, []);
    submit(&db, &bob, in_time, &[4, 3, 2, 1], json!({})).await;
    assert_eq!(
        cases(&db, project, &Filter::default()).await,
        [(task, 6, 6)]
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn conflicts_are_counted_by_pair_and_the_worst_case_comes_first(db: PgPool) {
    let project = fake::project(&db, 3, 4, 3, 3600).await;
    let app = TestApp::new(db.clone());
    let all = tasks(&db).await;
    label(
        &app,
        &db,
        project,
        &[
            ("ada", &[[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]),
            // One pair the other way; all pairs the other way; ties, which contradict nobody.
            ("bob", &[[2, 1, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1]]),
        ],
    )
    .await;
    let any = Filter::default();
    let expected = [(all[1], 6, 6), (all[0], 1, 6)];
    assert_eq!(cases(&db, project, &any).await, expected);

    // A third opinion counts with the others, and so does a correction.
    let labelers = label(&app, &db, project, &[("cleo", &[[1, 2, 4, 3]])]).await;
    assert_eq!(cases(&db, project, &any).await[1], (all[0], 2, 6));
    let id: uuid::Uuid = sqlx::query_scalar("SELECT id FROM assignments ORDER BY id DESC LIMIT 1")
        .fetch_one(&db)
        .await
        .unwrap();
    let order = format!("UPDATE assignments SET display_order = '{{0,1,2,3}}' WHERE id = '{id}'");
    fake::rewrite(&db, &order).await;
    let ranks = (1..=4).map(|position| json!({"position": position, "rank": position}));
    let body = json!({"candidates": ranks.collect::<Vec<_>>()});
    let path = format!("/api/v1/assignments/{id}/submission?replaces=1");
    let headers = [("idempotency-key", "k2")];
    let corrected = labelers[0].send_json("POST", &path, &headers, &body).await;
    assert_eq!(corrected.status, StatusCode::CREATED, "{}", corrected.body);
    assert_eq!(cases(&db, project, &any).await[1], (all[0], 1, 6));

    let mut connection = db.acquire().await.unwrap();
    let figures = store::adjudication::figures(&mut connection, project)
        .await
        .unwrap();
    assert_eq!(
        (figures.n_tasks, figures.n_conflicts, figures.n_decided),
        (3, 2, 0)
    );
    drop(connection);
    let admin = app.admin().await;
    let page = admin.get("/adjudication").await;
    assert!(
        page.body.contains("100 %") && page.body.contains("17 %"),
        "{}",
        page.body
    );
    let none = admin.get("/adjudication?category=chat").await;
    assert!(
        none.body.contains("No task with these properties"),
        "{}",
        none.body
    );
    let wrong = admin.get("/adjudication?category=gossip").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let page = admin.get(&format!("/adjudication/{}", all[0])).await;
    assert!(
        page.body
            .contains("Candidate 1 before 2: 2, the other way round: 1"),
        "{}",
        page.body
    );
    assert!(!page.body.contains(">bob<") && !page.body.contains("secret-model"));
    let named = admin
        .get(&format!("/adjudication/{}?names=true", all[0]))
        .await;
    assert!(named.body.contains(">bob<"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_decision_is_a_label_of_its_own_and_the_labels_stay(db: PgPool) {
    let project = fake::project(&db, 2, 4, 2, 3600).await;
    let app = TestApp::new(db.clone());
    let task = tasks(&db).await[0];
    let admin = app.admin().await;
    let path = format!("/adjudication/{task}");
    let early = admin.post(&path, &decision(&[2, 1, 3, 4], "k")).await;
    assert_eq!(early.status, StatusCode::CONFLICT, "nothing to decide yet");
    label(
        &app,
        &db,
        project,
        &[("ada", &[[1, 2, 3, 4]]), ("bob", &[[2, 1, 3, 4]])],
    )
    .await;
    let before: Vec<Value> = sqlx::query_scalar("SELECT to_jsonb(r) FROM rankings r ORDER BY id")
        .fetch_all(&db)
        .await
        .unwrap();
    // Each ranking is one line, side by side; the decision can begin with either.
    let bob: uuid::Uuid = sqlx::query_scalar(
        "SELECT a.id FROM assignments a JOIN accounts b ON b.id = a.labeler_id WHERE b.name = 'bob'",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    let page = admin.get(&format!("{path}?from={bob}")).await;
    let html = scraper::Html::parse_document(&page.body);
    let texts = |css: &str| -> Vec<String> {
        let css = scraper::Selector::parse(css).unwrap();
        html.select(&css)
            .map(|found| found.text().collect())
            .collect()
    };
    assert_eq!(texts(".labels .order"), ["1 > 2 > 3 > 4", "2 > 1 > 3 > 4"]);
    for (number, rank) in [(1, 2), (2, 1), (3, 3), (4, 4)] {
        let css = format!("#decision input[name='rank-{number}'][value='{rank}'][checked]");
        assert_eq!(texts(&css).len(), 1, "candidate {number}");
    }
    let missing = admin
        .post(&path, "idempotency_key=k&rank-1=1&note=hm")
        .await;
    assert_eq!(missing.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        missing.body.contains("Candidate 2: needs a rank"),
        "{}",
        missing.body
    );
    assert!(
        missing.body.contains(">hm</textarea>"),
        "what was typed stays"
    );

    let form = decision(&[2, 1, 3, 3], "k1") + "&rating-2=6&flag-2-hallucination=no";
    for _ in 0..2 {
        let done = admin.post(&path, &form).await;
        assert_eq!(
            done.location.as_deref(),
            Some(format!("/adjudication?project=study&decided={task}").as_str())
        );
        let told = admin.get(done.location.as_deref().unwrap()).await;
        assert!(told.body.contains("Your decision is recorded"));
    }
    type Row = (String, bool, Option<i16>, i32, i32, i32, String);
    let decided: Vec<Row> = sqlx::query_as(
        "SELECT a.status, a.is_adjudication, a.place, a.guidelines_version, a.form_version, r.version, r.note
         FROM assignments a JOIN rankings r ON r.assignment_id = a.id WHERE a.is_adjudication",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let expected = (
        "submitted".to_owned(),
        true,
        None,
        1,
        1,
        1,
        "so it is".to_owned(),
    );
    assert_eq!(decided, [expected]);
    let ranks: Vec<(i16, i16)> = sqlx::query_as(
        "SELECT g.slot, g.rank FROM ratings g JOIN rankings r ON r.id = g.ranking_id
         JOIN assignments a ON a.id = r.assignment_id WHERE a.is_adjudication ORDER BY g.slot",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(ranks, [(0, 2), (1, 1), (2, 3), (3, 3)]);
    let after: Vec<Value> = sqlx::query_scalar(
        "SELECT to_jsonb(r) FROM rankings r JOIN assignments a ON a.id = r.assignment_id
         WHERE NOT a.is_adjudication ORDER BY r.id",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(after, before);
    // It holds no place, counts as nobody's work, and is no conflict with the labels.
    let held: i16 = sqlx::query_scalar("SELECT n_held FROM tasks WHERE id = $1")
        .bind(task.0)
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(held, 2);
    let list = admin.get("/tasks").await;
    assert!(list.body.contains("2 / 2") && !list.body.contains("3 / 2"));
    let undecided = Filter {
        is_decided: Some(false),
        ..Default::default()
    };
    assert!(cases(&db, project, &undecided).await.is_empty());
    assert_eq!(
        cases(&db, project, &Filter::default()).await,
        [(task, 1, 6)]
    );

    // A better one is a new version.
    let again = admin.post(&path, &decision(&[1, 2, 3, 4], "k2")).await;
    assert_eq!(again.status, StatusCode::SEE_OTHER, "{}", again.body);
    let page = admin.get(&path).await;
    assert!(page.body.contains("Version 2"), "{}", page.body);
    let other = admin.post(&path, &decision(&[2, 2, 3, 4], "k2")).await;
    assert_eq!(
        other.status,
        StatusCode::CONFLICT,
        "the key was used for another"
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn nobody_judges_between_themselves_and_others_and_only_admins_judge(db: PgPool) {
    let project = fake::project(&db, 1, 4, 2, 3600).await;
    let app = TestApp::new(db.clone());
    let task = tasks(&db).await[0];
    let path = format!("/adjudication/{task}");
    let both = app.client("both", &[Role::Labeler, Role::Admin]).await;
    let who = both.account_id.unwrap();
    let (id, _) = lease(&db, project, who, "label").await.unwrap();
    submit(&db, &both, id, &[1, 2, 3, 4], json!({})).await;
    let others = label(&app, &db, project, &[("ada", &[[2, 1, 3, 4]])]).await;
    let form = decision(&[1, 2, 3, 4], "k");
    let refused = both.post(&path, &form).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let page = both.get(&path).await;
    assert!(page.body.contains("another admin decides"), "{}", page.body);
    for address in ["/adjudication", path.as_str()] {
        assert_eq!(others[0].get(address).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(
        others[0].post(&path, &form).await.status,
        StatusCode::FORBIDDEN
    );
    let admin = app.admin().await;
    let done = admin.post(&path, &form).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
}

/// Who decides between labels is no labeler: neither among the figures nor on the card of a dataset.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_decision_is_named_as_one_and_makes_no_labeler(db: PgPool) {
    let project = fake::project(&db, 1, 4, 2, 3600).await;
    let app = TestApp::new(db.clone());
    let task = tasks(&db).await[0];
    let rankings: [(&str, &[[i16; 4]]); 2] = [("ada", &[[1, 2, 3, 4]]), ("bob", &[[2, 1, 3, 4]])];
    label(&app, &db, project, &rankings).await;
    let admin = app.program("zoe", &[Role::Admin]).await;
    let path = format!("/adjudication/{task}");
    let alice = app.admin().await;
    let done = alice.post(&path, &decision(&[2, 1, 3, 4], "k")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let figures = format!("/api/v1/projects/{project}/agreement");
    let figures = admin.get(&figures).await.json();
    let labelers = figures["labelers"].as_array().unwrap().iter();
    let names: Vec<&str> = labelers.map(|own| own["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ada", "bob"]);
    assert_eq!(figures["n_adjudications"], 1);
    for (labels, n_labelers, n_decisions) in [(Labels::All, 2, 1), (Labels::Labels, 2, 0)] {
        let id = create_snapshot(&db, &selection(project, labels), None)
            .await
            .unwrap();
        let export = exporting::built(&app, &admin, id, "container=dataset").await;
        let bytes = exporting::file_of(&app, &export, "tar");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(&format!("| labelers | {n_labelers} |")));
        assert_eq!(
            text.contains(&format!("| decisions | {n_decisions} between labels")),
            n_decisions > 0
        );
    }
}

fn selection(project_id: ProjectId, labels: Labels) -> Selection {
    Selection {
        project_id,
        kind: SnapshotKind::Rankings,
        name: labels.to_string(),
        categories: Vec::new(),
        include_simulated: false,
        reviewed_categories: false,
        include_personal: false,
        labels,
        filters: server::domain::snapshot_filters::Filters::default(),
    }
}

async fn written(db: &PgPool, id: SnapshotId) -> String {
    let mut connection = db.acquire().await.unwrap();
    let mut bytes = Vec::new();
    write_snapshot(&mut connection, id, &mut bytes)
        .await
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Prompt and ranks of each line, decisions marked.
fn lines(text: &str) -> Vec<(String, Vec<u64>, bool)> {
    let mut lines: Vec<_> = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let ranks = line["completions"].as_array().unwrap().iter();
            (
                line["id"].as_str().unwrap().to_owned(),
                ranks.map(|item| item["rank"].as_u64().unwrap()).collect(),
                line["adjudication"] == true,
            )
        })
        .collect();
    lines.sort();
    lines
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_snapshot_takes_decisions_labels_or_both_and_stays_as_it_was(db: PgPool) {
    let project = fake::project(&db, 2, 4, 2, 3600).await;
    let app = TestApp::new(db.clone());
    let task = tasks(&db).await[0];
    label(
        &app,
        &db,
        project,
        &[
            ("ada", &[[1, 2, 3, 4], [1, 2, 3, 4]]),
            ("bob", &[[2, 1, 3, 4], [1, 2, 3, 4]]),
        ],
    )
    .await;
    // Two admins decide; the newer decision stands.
    let path = format!("/adjudication/{task}");
    for (name, ranks) in [("first", [1, 1, 2, 3]), ("second", [3, 1, 2, 4])] {
        let admin = app.client(name, &[Role::Admin]).await;
        let done = admin.post(&path, &decision(&ranks, "k")).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    }
    let mut taken = Vec::new();
    for labels in Labels::ALL {
        let id = create_snapshot(&db, &selection(project, labels), None)
            .await
            .unwrap();
        taken.push((id, written(&db, id).await));
    }
    let line = |id: &str, ranks: [u64; 4], decided| (id.to_owned(), ranks.to_vec(), decided);
    let plain = [1, 2, 3, 4];
    let labels = [
        line("p0", plain, false),
        line("p0", [2, 1, 3, 4], false),
        line("p1", plain, false),
        line("p1", plain, false),
    ];
    let adjudicated = [
        line("p0", [3, 1, 2, 4], true),
        labels[2].clone(),
        labels[3].clone(),
    ];
    assert_eq!(lines(&taken[0].1), adjudicated);
    assert_eq!(lines(&taken[2].1), labels);
    let all = lines(&taken[1].1);
    assert_eq!(all.len(), 6);
    assert_eq!(all.iter().filter(|line| line.2).count(), 2);

    // Whatever is decided later, and wherever the task is put in the queue, the bytes stay.
    let admin = app.client("third", &[Role::Admin]).await;
    let done = admin.post(&path, &decision(&[4, 3, 2, 1], "k")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    sqlx::query("UPDATE tasks SET chosen_by = 'informative', disagreement = 0.25")
        .execute(&db)
        .await
        .unwrap();
    for (id, text) in &taken {
        assert_eq!(&written(&db, *id).await, text);
    }
    assert!(
        taken[2].1.contains("\"chosen_by\":\"oldest\""),
        "{}",
        taken[2].1
    );
    let page = admin.get(&format!("/snapshots/{}", taken[0].0)).await;
    assert!(page.body.contains("the decision in place of the labels"));
    let form = "project=study&name=x&kind=rankings&labels=most";
    let refused = admin.post("/snapshots", form).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let form = "project=study&name=x&kind=rankings&labels=labels";
    let made = admin.post("/snapshots", form).await.location.unwrap();
    let text = written(&db, made.rsplit('/').next().unwrap().parse().unwrap()).await;
    assert_eq!(lines(&text), labels);

    // A file with decisions comes in as it went out.
    let mut connection = db.acquire().await.unwrap();
    let copy = store::projects::insert(&mut connection, "copy", "Copy", 1, 3600)
        .await
        .unwrap();
    let target = store::projects::find(&mut connection, copy)
        .await
        .unwrap()
        .unwrap();
    let source = std::io::Cursor::new(strip_ids(&taken[1].1).into_bytes());
    let (kind, format) = (ImportKind::Rankings, FileFormat::Jsonl);
    let report = import(&mut connection, &target, kind, format, source)
        .await
        .unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    drop(connection);
    assert_eq!(
        cases(&db, copy, &Filter::default()).await.len(),
        1,
        "imports are measured"
    );
    for labels in Labels::ALL {
        let id = create_snapshot(&db, &selection(copy, labels), None)
            .await
            .unwrap();
        let again = written(&db, id).await;
        let n = [3, 6, 4][labels as usize];
        assert_eq!(lines(&again).len(), n, "{labels}");
        assert_eq!(
            again.matches("\"chosen_by\":\"oldest\"").count(),
            [2, 4, 4][labels as usize]
        );
    }
}

/// Lines without the keys of their rankings, which are taken in this database.
fn strip_ids(text: &str) -> String {
    let strip = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("ranking_id");
        format!("{line}\n")
    };
    text.lines().map(strip).collect()
}
