//! Importing: whole or not at all, and every wrong line by number and field.

use std::io::Cursor;

use axum::http::StatusCode;
use axum::http::header::{ACCEPT_LANGUAGE, CONTENT_TYPE};
use server::config::ServeConfig;
use server::domain::ids::{ProjectId, SnapshotId};
use server::domain::snapshot::{Selection, SnapshotKind};
use server::exchange::export::{create_snapshot, write_snapshot};
use server::exchange::import::{FileFormat, Report, import};
use server::exchange::records::ImportKind;
use server::store;
use sqlx::PgPool;
use trainer::records::RankedPrompt;

use crate::support::{Answer, Client, TestApp, fake};

async fn try_import(db: &PgPool, kind: ImportKind, format: FileFormat, file: &[u8]) -> Report {
    let mut transaction = db.begin().await.unwrap();
    let project = store::projects::find_by_slug(&mut transaction, "study")
        .await
        .unwrap()
        .unwrap();
    let source = Cursor::new(file.to_vec());
    let report = import(&mut transaction, &project, kind, format, source)
        .await
        .unwrap();
    if report.is_clean() {
        transaction.commit().await.unwrap();
    }
    report
}

async fn import_jsonl(db: &PgPool, kind: ImportKind, lines: &str) -> Report {
    try_import(db, kind, FileFormat::Jsonl, lines.as_bytes()).await
}

async fn count(db: &PgPool, table: &str) -> i64 {
    let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

async fn empty_project(db: &PgPool) -> ProjectId {
    fake::project(db, 0, 4, 2, 3600).await
}

fn places(report: &Report) -> Vec<(usize, &str)> {
    let problems = report.problems.iter();
    problems
        .map(|problem| (problem.line, problem.field.as_str()))
        .collect()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn every_wrong_line_is_named_and_nothing_is_stored(db: PgPool) {
    empty_project(&db).await;
    let mut file = br#"{"id":"a","prompt":"one","category":"chat"}
{"id":"b","prompt":"two","category":"poetry"}

{"id":"a","prompt":"again"}
{"id":"c","prompt":"x","catgory":"chat"}
not JSON
"#
    .to_vec();
    file.extend_from_slice(b"{\"id\":\"d\",\"prompt\":\"\xFF\"}\n");
    let report = try_import(&db, ImportKind::Prompts, FileFormat::Jsonl, &file).await;
    assert_eq!(
        places(&report),
        [(2, "category"), (4, "id"), (5, "catgory"), (6, ""), (7, "")]
    );
    assert!(report.problems[1].message.is("import-in-file"));
    assert_eq!(count(&db, "prompts").await, 0);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_id_of_the_project_is_refused_and_unicode_survives(db: PgPool) {
    empty_project(&db).await;
    let line = "\u{FEFF}{\"id\":\"茶-1\",\"prompt\":\"泡茶的水温？\",\"language\":\"zh\"}\r\n";
    assert!(
        import_jsonl(&db, ImportKind::Prompts, line)
            .await
            .is_clean()
    );
    let body: serde_json::Value = sqlx::query_scalar("SELECT body FROM prompts")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(body, "泡茶的水温？");
    let report = import_jsonl(&db, ImportKind::Prompts, line).await;
    assert!(report.problems[0].message.is("import-in-project"));
    assert_eq!(count(&db, "prompts").await, 1);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn only_a_thousand_wrong_lines_are_listed(db: PgPool) {
    empty_project(&db).await;
    let report = import_jsonl(&db, ImportKind::Texts, &"{}\n".repeat(1234)).await;
    assert_eq!((report.problems.len(), report.n_more), (1000, 234));
    assert_eq!(report.problems[999].line, 1000);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_empty_file_is_wrong(db: PgPool) {
    empty_project(&db).await;
    for file in ["", "\n \n"] {
        let report = import_jsonl(&db, ImportKind::Prompts, file).await;
        assert_eq!(places(&report), [(0, "")]);
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn csv_knows_quotes_line_breaks_and_its_header(db: PgPool) {
    empty_project(&db).await;
    let csv = "\u{FEFF}id,category,prompt\r\na,chat,\"Say \"\"hi\"\",\nplease\"\r\nb,,Go on\r\n";
    let report = try_import(&db, ImportKind::Prompts, FileFormat::Csv, csv.as_bytes()).await;
    assert!(report.is_clean(), "{report:?}");
    let rows: Vec<(String, serde_json::Value, String)> =
        sqlx::query_as("SELECT external_id, body, category FROM prompts ORDER BY external_id")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(rows[0].1, "Say \"hi\",\nplease");
    assert_eq!((rows[0].2.as_str(), rows[1].2.as_str()), ("chat", "other"));

    let csv = "id,prompt\nc,one\nd,two,three\n,four\ne,\n";
    let report = try_import(&db, ImportKind::Prompts, FileFormat::Csv, csv.as_bytes()).await;
    assert_eq!(places(&report), [(3, ""), (4, "id"), (5, "prompt")]);
    let csv = "id,text\nc,one\n";
    let report = try_import(&db, ImportKind::Prompts, FileFormat::Csv, csv.as_bytes()).await;
    assert_eq!(places(&report), [(1, "header")]);
    let report = try_import(&db, ImportKind::Texts, FileFormat::Csv, b"id,text\n").await;
    assert_eq!(places(&report), [(0, "")]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_quote_left_open_does_not_swallow_the_file(db: PgPool) {
    empty_project(&db).await;
    let mut csv = b"id,prompt\na,fine\nb,\"open\n".to_vec();
    csv.resize(csv.len() + 6 * 1024 * 1024, b'x');
    let report = try_import(&db, ImportKind::Prompts, FileFormat::Csv, &csv).await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(report.problems[0].message.is("import-open-quote"));
}

fn candidates(id: &str) -> String {
    let items: Vec<String> = (1..=4)
        .map(|n| format!(r#"{{"id":"{id}-{n}","text":"answer {n}","model":"m","sampling":{{"seed":7}},"is_finished":{}}}"#, n != 4))
        .collect();
    format!(
        "{{\"id\":\"{id}\",\"prompt\":\"ask {id}\",\"completions\":[{}]}}\n",
        items.join(",")
    )
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn candidates_open_one_task_for_each_prompt(db: PgPool) {
    let project = empty_project(&db).await;
    let known = r#"{"id":"p1","prompt":"ask p1","category":"chat"}"#;
    assert!(
        import_jsonl(&db, ImportKind::Prompts, known)
            .await
            .is_clean()
    );
    let file = [candidates("p1"), candidates("p2")].concat();
    let report = import_jsonl(&db, ImportKind::Candidates, &file).await;
    assert!(report.is_clean(), "{report:?}");
    let mut connection = db.acquire().await.unwrap();
    let filter = store::tasks::TaskFilter {
        state: "open".to_owned(),
        ..Default::default()
    };
    let tasks = store::tasks::list(&mut connection, project, &filter, 10)
        .await
        .unwrap();
    assert_eq!(tasks.len(), 2);
    assert!(
        tasks
            .iter()
            .all(|task| task.n_candidates == 4 && task.overlap == 2)
    );
    assert_eq!(count(&db, "completions WHERE NOT is_finished").await, 2);
    assert_eq!(count(&db, "prompts WHERE category = 'chat'").await, 1);

    let again = import_jsonl(&db, ImportKind::Candidates, &candidates("p2")).await;
    assert!(again.problems[0].message.is("import-has-task"));
    let other = candidates("p1").replace("ask p1", "ask something else");
    let other = import_jsonl(&db, ImportKind::Candidates, &other).await;
    assert!(other.problems[0].message.is("import-other-prompt"));
}

fn ranking(labeler: &str, ranks: [u32; 3]) -> String {
    let items: Vec<String> = ranks
        .iter()
        .enumerate()
        .map(|(n, rank)| format!(r#"{{"id":"c{n}","text":"text {n}","model":"m{n}","rank":{rank},"rating":{n},"flags":{{"hallucination":true}}}}"#))
        .map(|item| item.replace("\"rating\":0,", ""))
        .collect();
    format!(
        "{{\"id\":\"p\",\"prompt\":[{{\"role\":\"user\",\"content\":\"hi\"}}],\"labeler\":\"{labeler}\",\"completions\":[{}]}}\n",
        items.join(",")
    )
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn rankings_of_several_labelers_share_a_task_and_nobody_ranks_twice(db: PgPool) {
    empty_project(&db).await;
    let file = [ranking("ada", [1, 2, 2]), ranking("bob", [3, 2, 1])].concat();
    let report = import_jsonl(&db, ImportKind::Rankings, &file).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(
        count(&db, "tasks WHERE n_held = 2 AND overlap = 2").await,
        1
    );
    assert_eq!(count(&db, "completions").await, 3);
    assert_eq!(count(&db, "comparisons").await, 6);
    assert_eq!(count(&db, "comparisons WHERE is_tie").await, 1);
    assert_eq!(count(&db, "ratings WHERE overall IS NULL").await, 2);
    assert_eq!(
        count(
            &db,
            "accounts WHERE disabled_at IS NOT NULL AND name IN ('ada', 'bob')"
        )
        .await,
        2
    );
    let again = import_jsonl(&db, ImportKind::Rankings, &ranking("bob", [1, 2, 3])).await;
    assert!(again.problems[0].message.is("import-ranked-already"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_ranking_of_a_file_that_says_no_order_has_no_letters(db: PgPool) {
    empty_project(&db).await;
    let report = import_jsonl(&db, ImportKind::Rankings, &ranking("ada", [1, 2, 2])).await;
    assert!(report.is_clean(), "{:?}", places(&report));
    let task: uuid::Uuid = sqlx::query_scalar("SELECT id FROM tasks")
        .fetch_one(&db)
        .await
        .unwrap();
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let page = admin.get(&format!("/tasks/{task}")).await;
    assert!(page.body.contains("Labeler 1"), "{}", page.body);
    assert!(!page.body.contains("shown as"), "{}", page.body);
    fake::rewrite(&db, "UPDATE assignments SET display_order = '{2,0,1}'").await;
    let page = admin.get(&format!("/tasks/{task}")).await;
    assert!(page.body.contains("shown as C"), "{}", page.body);
}

/// A ranking of a prompt with further fields, such as `"customer":"acme",`.
fn ranking_of(prompt: &str, labeler: &str, fields: &str) -> String {
    let line = ranking(labeler, [1, 2, 3]);
    line.replace("{\"id\":\"p\",", &format!("{{\"id\":\"{prompt}\",{fields}"))
}

async fn export(db: &PgPool, project_id: ProjectId, kind: SnapshotKind) -> String {
    let selection = Selection {
        project_id,
        kind,
        name: "all".to_owned(),
        categories: Vec::new(),
        include_simulated: true,
        reviewed_categories: false,
        include_personal: false,
        labels: server::domain::snapshot::Labels::default(),
        filters: server::domain::snapshot_filters::Filters::default(),
    };
    let id = create_snapshot(db, &selection, None).await.unwrap();
    written(db, id).await
}

/// A snapshot's lines; an error when they are no longer those that were hashed.
async fn written(db: &PgPool, id: SnapshotId) -> String {
    let mut connection = db.acquire().await.unwrap();
    let mut bytes = Vec::new();
    write_snapshot(&mut connection, id, &mut bytes)
        .await
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn whose_a_prompt_is_comes_in_and_goes_out_with_it(db: PgPool) {
    let project = empty_project(&db).await;
    let prompts = concat!(
        r#"{"id":"a","prompt":"one","category":"chat","customer":"acme"}"#,
        "\n",
        r#"{"id":"b","prompt":"two"}"#,
        "\n"
    );
    let report = import_jsonl(&db, ImportKind::Prompts, prompts).await;
    assert!(report.is_clean(), "{report:?}");
    let csv = b"id,prompt,customer\nc,three,acme\nd,four,\n";
    let report = try_import(&db, ImportKind::Prompts, FileFormat::Csv, csv).await;
    assert!(report.is_clean(), "{report:?}");
    let task = candidates("e").replace("{\"id\":\"e\",", "{\"id\":\"e\",\"customer\":\"zeta\",");
    let report = import_jsonl(&db, ImportKind::Candidates, &task).await;
    assert!(report.is_clean(), "{report:?}");
    // Nothing is said of a customer where there is none.
    let lines = [
        r#"{"id":"a","prompt":"one","category":"chat","customer":"acme"}"#,
        r#"{"id":"b","prompt":"two","category":"other"}"#,
        r#"{"id":"c","prompt":"three","category":"other","customer":"acme"}"#,
        r#"{"id":"d","prompt":"four","category":"other"}"#,
        r#"{"id":"e","prompt":"ask e","category":"other","customer":"zeta"}"#,
    ];
    let exported = export(&db, project, SnapshotKind::Prompts).await;
    assert_eq!(exported.lines().collect::<Vec<_>>(), lines);

    // One line of a prompt may say it for all of the file.
    let acme = "\"customer\":\"acme\",";
    let file = [
        ranking_of("r", "ada", ""),
        ranking_of("r", "bob", acme),
        ranking_of("r", "cleo", ""),
        ranking_of("s", "ada", ""),
    ];
    let report = import_jsonl(&db, ImportKind::Rankings, &file.concat()).await;
    assert!(report.is_clean(), "{report:?}");
    let exported = export(&db, project, SnapshotKind::Rankings).await;
    let customers: Vec<Option<String>> = exported
        .lines()
        .map(|line| serde_json::from_str::<RankedPrompt>(line).unwrap().customer)
        .collect();
    let acme = || Some("acme".to_owned());
    assert_eq!(customers, [acme(), acme(), acme(), None]);
    assert_eq!(exported.matches("customer").count(), 3);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_prompt_has_one_customer_and_snapshots_keep_what_they_had(db: PgPool) {
    let project = empty_project(&db).await;
    let named = |name: &str| format!("\"customer\":\"{name}\",");
    let file = [
        ranking_of("p", "ada", &named("acme")),
        ranking_of("p", "bob", &named("zeta")),
        ranking_of("q", "ada", &named(" ")),
        ranking_of("p", "cleo", ""),
    ];
    let report = import_jsonl(&db, ImportKind::Rankings, &file.concat()).await;
    assert_eq!(places(&report), [(2, "customer"), (3, "customer")]);
    let said = |report: &Report, index: usize| report.problems[index].message.to_string();
    assert!(said(&report, 0).contains("an earlier line of the prompt"));
    assert!(said(&report, 1).contains("leave it out"));
    assert_eq!(count(&db, "prompts").await, 0);
    let csv = b"id,prompt,customer\na,one, \n";
    let report = try_import(&db, ImportKind::Prompts, FileFormat::Csv, csv).await;
    assert_eq!(places(&report), [(2, "customer")]);

    let file = [
        ranking_of("p", "ada", &named("acme")),
        ranking_of("q", "ada", ""),
    ];
    let report = import_jsonl(&db, ImportKind::Rankings, &file.concat()).await;
    assert!(report.is_clean(), "{report:?}");
    let before = export(&db, project, SnapshotKind::Rankings).await;
    let id: uuid::Uuid = sqlx::query_scalar("SELECT id FROM snapshots")
        .fetch_one(&db)
        .await
        .unwrap();
    // Later files may repeat a customer or leave it out, and cannot change it.
    let file = [
        ranking_of("p", "bob", &named("zeta")),
        ranking_of("q", "bob", &named("acme")),
        ranking_of("p", "cleo", &named("acme")),
        ranking_of("p", "dora", ""),
    ];
    let report = import_jsonl(&db, ImportKind::Rankings, &file.concat()).await;
    assert_eq!(places(&report), [(1, "customer"), (2, "customer")]);
    assert!(said(&report, 0).contains("snapshots may hold already"));
    let report = import_jsonl(&db, ImportKind::Rankings, &file[2..].concat()).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(written(&db, SnapshotId(id)).await, before);
}

/// Posts the import form with a file.
async fn upload(client: &Client<'_>, kind: &str, name: &str, file: &str) -> Answer {
    upload_in(client, "en", kind, name, file).await
}

/// The same with a page in a language.
async fn upload_in(client: &Client<'_>, lang: &str, kind: &str, name: &str, file: &str) -> Answer {
    let part = |head: &str, body: &str| {
        format!("--frontier\r\nContent-Disposition: form-data; {head}\r\n\r\n{body}\r\n")
    };
    let body = [
        part("name=\"project\"", "study"),
        part("name=\"kind\"", kind),
        part("name=\"format\"", ""),
        part(&format!("name=\"file\"; filename=\"{name}\""), file),
        part("name=\"lines\"", ""),
        "--frontier--\r\n".to_owned(),
    ]
    .concat();
    let request = client
        .request("POST", "/prompts/import")
        .header(ACCEPT_LANGUAGE, lang)
        .header(CONTENT_TYPE, "multipart/form-data; boundary=frontier");
    client.send(request.body(body.into()).unwrap()).await
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_imports_on_the_page_and_a_labeler_does_not(db: PgPool) {
    empty_project(&db).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let refused = upload(&ada, "prompts", "p.csv", "id,prompt\na,b\n").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let admin = app.admin().await;
    let wrong = upload(&admin, "prompts", "p.csv", "id,prompt\n<b>,b\n<b>,c\n").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        wrong.body.contains("stands on an earlier line"),
        "{}",
        wrong.body
    );
    assert_eq!(count(&db, "prompts").await, 0);

    // Larger than an ordinary form may be.
    let lines: String = (0..30_000)
        .map(|n| format!("{{\"id\":\"n{n}\",\"prompt\":\"<i>Number</i> {n}, of a file that is long enough to be large\",\"category\":\"chat\"}}\n"))
        .collect();
    assert!(lines.len() > 3 * 1024 * 1024);
    let done = upload(&admin, "prompts", "p.jsonl", &lines).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert!(done.body.contains("30,000") || done.body.contains("30000"));
    assert!(!done.body.contains("<i>Number"), "a prompt became markup");
    assert_eq!(count(&db, "prompts").await, 30_000);
}

/// What is wrong is said in the reader's language, beside the line and the field.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn wrong_lines_are_told_in_the_language_of_the_page(db: PgPool) {
    empty_project(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let file = r#"{"id":"a","prompt":[{"role":"robot","content":"x"}]}
{"id":"a","prompt":"x","category":"poetry"}
{"id":"b","prompt":7,"x":1}
{"id":"c","prompt":"one"}
{"id":"c","prompt":"two"}
no JSON
"#;
    let english = [
        ("1", "prompt", "unknown role “robot”"),
        (
            "2",
            "category",
            "unknown category “poetry”: use one of generation",
        ),
        ("3", "x", "unknown field: use id, prompt"),
        ("5", "id", "stands on an earlier line of this file"),
        ("6", "", "is not a JSON object: expected"),
    ];
    let chinese = [
        ("1", "prompt", "未知角色“robot”"),
        (
            "2",
            "category",
            "未知类别“poetry”：请使用以下之一：generation",
        ),
        ("3", "x", "未知字段：可用 id, prompt"),
        ("5", "id", "在此文件前面的行中已出现"),
        ("6", "", "不是 JSON 对象：expected"),
    ];
    for (lang, told) in [("en", english), ("zh", chinese)] {
        let page = upload_in(&admin, lang, "prompts", "p.jsonl", file).await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
        let rows: Vec<&str> = page.body.split("<tr").collect();
        for (line, field, message) in told {
            let number = format!(" class=\"number\">{line}</td>");
            let name = match field {
                "" => ">–</td>".to_owned(),
                name => format!("<code>{name}</code>"),
            };
            let found = rows
                .iter()
                .any(|row| row.contains(&number) && row.contains(&name) && row.contains(message));
            assert!(found, "{lang} {line} {field} {message}: {}", page.body);
        }
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_file_that_is_too_large_is_refused_with_the_limit_and_what_to_do(db: PgPool) {
    empty_project(&db).await;
    let config = ServeConfig {
        max_upload_mib: 1,
        ..ServeConfig::default()
    };
    let app = TestApp::with_config(db.clone(), config);
    let admin = app.admin().await;
    let line = |n: usize| format!("{{\"id\":\"n{n}\",\"prompt\":\"{}\"}}\n", "x".repeat(1000));
    let large: String = (0..1100).map(line).collect();
    let refused = upload(&admin, "prompts", "p.jsonl", &large).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    for part in ["1 MiB", "--max-upload-mib", "plackett import"] {
        assert!(refused.body.contains(part), "{part}: {}", refused.body);
    }
    assert_eq!(count(&db, "prompts").await, 0);
    let small: String = (0..900).map(line).collect();
    let done = upload(&admin, "prompts", "p.jsonl", &small).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn prompts_are_found_by_text_and_category_page_by_page(db: PgPool) {
    empty_project(&db).await;
    let lines: String = (0..120)
        .map(|n| {
            format!(
                "{{\"id\":\"n{n:03}\",\"prompt\":\"Number {n}\",\"category\":\"{}\"}}\n",
                if n % 2 == 0 { "chat" } else { "extract" }
            )
        })
        .collect();
    assert!(
        import_jsonl(&db, ImportKind::Prompts, &lines)
            .await
            .is_clean()
    );
    let app = TestApp::new(db);
    let admin = app.admin().await;
    let found = admin.get("/prompts?search=number%20117").await.body;
    assert!(found.contains("n117") && !found.contains("n116"));
    let mut path = "/prompts?category=chat".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = admin.get(&path).await.body;
        let ids = page.split("\"><code>").skip(1);
        seen.extend(ids.filter_map(|part| part.split('<').next().map(str::to_owned)));
        let Some(rest) = page.split("name=\"before\" value=\"").nth(1) else {
            break;
        };
        let before = rest.split('"').next().unwrap();
        path = format!("/prompts?category=chat&before={before}");
    }
    let expected: Vec<String> = (0..60).rev().map(|n| format!("n{:03}", n * 2)).collect();
    assert_eq!(seen, expected);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_sees_who_holds_a_task_and_closes_it(db: PgPool) {
    fake::project(&db, 1, 4, 2, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    assert_eq!(ada.get("/tasks").await.status, StatusCode::FORBIDDEN);
    assert_eq!(ada.post("/work", "").await.status, StatusCode::SEE_OTHER);
    let admin = app.admin().await;
    let page = admin.get("/tasks?state=held").await.body;
    assert!(
        page.contains("ada") && !page.contains("secret-model"),
        "{page}"
    );
    let path = page.split("action=\"").find(|part| part.contains("/close"));
    let path = path.unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(admin.post(&path, "").await.status, StatusCode::SEE_OTHER);
    assert_eq!(count(&db, "tasks WHERE closed_at IS NOT NULL").await, 1);
    let bob = app.labeler("bob").await;
    assert_eq!(
        bob.post("/work", "").await.location.as_deref(),
        Some("/work"),
        "no task is left"
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn use_cases_open_a_task_each_and_none_twice(db: PgPool) {
    empty_project(&db).await;
    let kind = ImportKind::UseCases;
    let lines = "{\"use_case\":\"A zoo names its animals.\",\"language\":\"en\"}\n\
                 {\"use_case\":\"A choir\\nplans its year.\"}\n";
    let report = import_jsonl(&db, kind, lines).await;
    assert!(report.is_clean(), "{report:?}");
    let tasks: Vec<(String, i16, Option<String>, serde_json::Value)> =
        sqlx::query_as("SELECT kind, overlap, language, brief FROM tasks ORDER BY id")
            .fetch_all(&db)
            .await
            .unwrap();
    let brief = serde_json::json!({"kind": "user_based", "use_case": "A zoo names its animals."});
    let first = ("demonstrate".to_owned(), 2, Some("en".to_owned()), brief);
    assert_eq!((tasks.len(), &tasks[0]), (2, &first));
    let again = "{\"use_case\":\"new\"}\n{\"use_case\":\"A zoo names its animals.\"}\n{\"use_case\":\" \"}\n\
                 {\"use_case\":\"new\"}\n{\"usecase\":\"x\"}\n";
    let report = import_jsonl(&db, kind, again).await;
    let wrong = [
        (2, "use_case"),
        (3, "use_case"),
        (4, "use_case"),
        (5, "usecase"),
    ];
    assert_eq!(places(&report), wrong);
    assert_eq!(count(&db, "tasks").await, 2);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn exported_prompts_come_back_without_the_reviews_of_others(db: PgPool) {
    empty_project(&db).await;
    let line = r#"{"id":"a","prompt":"one","category":"chat","review":{"category":"other","language":"en","flags":{}}}"#;
    let report = import_jsonl(&db, ImportKind::Prompts, line).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(
        (count(&db, "prompts").await, count(&db, "reviews").await),
        (1, 0)
    );
}

/// The trainer holds out whole customers, so the sides that an export names must be those of customers, too.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn all_prompts_of_a_customer_are_on_one_side_of_a_split(db: PgPool) {
    let project = empty_project(&db).await;
    let prompts = |customer: &str, field: &str| -> String {
        let one = |n| ranking_of(&format!("{customer}-{n}"), "ada", field);
        (0..20).map(one).collect()
    };
    let file = prompts("acme", "\"customer\":\"acme\",") + prompts("alone", "").as_str();
    let report = import_jsonl(&db, ImportKind::Rankings, &file).await;
    assert!(report.is_clean(), "{report:?}");
    let exported = export(&db, project, SnapshotKind::Rankings).await;
    let sides = |customer: Option<&str>| -> std::collections::BTreeSet<String> {
        let lines = exported
            .lines()
            .map(|line| serde_json::from_str::<RankedPrompt>(line).unwrap());
        let own = lines.filter(|line| line.customer.as_deref() == customer);
        own.map(|line| line.split.unwrap()).collect()
    };
    assert_eq!(sides(Some("acme")).len(), 1);
    assert_eq!(sides(None).len(), 2);
}
