//! Two admins who edit the same project at once: neither saves over the other without being told, and every
//! edit is in the audit log.

use axum::http::StatusCode;
use scraper::{Html, Selector};
use server::domain::ids::ProjectId;
use server::domain::role::Role;
use sqlx::PgPool;

use crate::projects::encode;
use crate::support::{Answer, Client, TestApp, fake};

/// What the page's form knows the state of the project by.
fn last(page: &Answer) -> String {
    let html = Html::parse_document(&page.body);
    let input = Selector::parse("main input[name='last']").unwrap();
    let input = html.select(&input).next().unwrap();
    input.value().attr("value").unwrap().to_owned()
}

fn settings(last: &str, overlap: &str, candidates: &str) -> String {
    encode(&[
        ("last", last),
        ("name", "Study"),
        ("candidates", candidates),
        ("overlap", overlap),
        ("lease_seconds", "3600"),
        ("least_seconds", "10"),
        ("gold_percent", "0"),
        ("repeat_percent", "0"),
        ("repeat_after_days", "7"),
        ("evaluation_percent", "20"),
        ("next_task", "oldest"),
        ("is_open", "true"),
    ])
}

async fn saved(db: &PgPool, id: ProjectId) -> (i16, i16) {
    sqlx::query_as("SELECT overlap, candidates FROM projects WHERE id = $1")
        .bind(id.0)
        .fetch_one(db)
        .await
        .unwrap()
}

async fn n_events(db: &PgPool, action: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM audit_events WHERE action = $1")
        .bind(action)
        .fetch_one(db)
        .await
        .unwrap()
}

async fn two_admins(app: &TestApp) -> [Client<'_>; 2] {
    [
        app.client("first", &[Role::Admin]).await,
        app.client("second", &[Role::Admin]).await,
    ]
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn settings_that_somebody_saved_meanwhile_are_not_saved_over_unseen(db: PgPool) {
    let id = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let [first, second] = two_admins(&app).await;
    let path = format!("/projects/{id}");
    let shown = last(&second.get(&path).await);
    let done = first.post(&path, &settings(&shown, "3", "4")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);

    let refused = second.post(&path, &settings(&shown, "1", "5")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(saved(&db, id).await, (3, 4));
    assert!(refused.body.contains("3 → 1") && refused.body.contains("4 → 5"));
    assert!(refused.body.contains("Somebody saved other settings"));
    // Who saves again has seen it.
    let seen = last(&refused);
    assert_ne!(seen, shown);
    let done = second.post(&path, &settings(&seen, "3", "5")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert_eq!(saved(&db, id).await, (3, 5));
    assert_eq!(n_events(&db, "settings_changed").await, 2);
    // To save what is there already takes nothing from anybody.
    let same = second.post(&path, &settings(&shown, "3", "5")).await;
    assert_eq!(same.status, StatusCode::SEE_OTHER);

    // At the very same moment, too, one of two is told.
    let shown = last(&first.get(&path).await);
    let (one, other) = (settings(&shown, "2", "5"), settings(&shown, "4", "5"));
    let (one, other) = tokio::join!(first.post(&path, &one), second.post(&path, &other));
    let mut statuses = [one.status, other.status];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::SEE_OTHER, StatusCode::CONFLICT]);
    assert_eq!(n_events(&db, "settings_changed").await, 3);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_typo_does_not_hide_what_somebody_saved_meanwhile(db: PgPool) {
    let id = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let [first, second] = two_admins(&app).await;
    let path = format!("/projects/{id}");
    let shown = last(&second.get(&path).await);
    let done = first.post(&path, &settings(&shown, "3", "4")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let typo = second.post(&path, &settings(&shown, "one", "5")).await;
    assert_eq!(typo.status, StatusCode::UNPROCESSABLE_ENTITY);
    let mended = settings(&last(&typo), "1", "5");
    let refused = second.post(&path, &mended).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body.contains("3 → 1") && refused.body.contains("4 → 5"));
    assert_eq!(saved(&db, id).await, (3, 4));
    let seen = settings(&last(&refused), "3", "5");
    let done = second.post(&path, &seen).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    // Where nobody saved anything, a typo costs no second look.
    let shown = last(&second.get(&path).await);
    let typo = second.post(&path, &settings(&shown, "two", "5")).await;
    let mended = settings(&last(&typo), "2", "5");
    let done = second.post(&path, &mended).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    assert_eq!(saved(&db, id).await, (2, 5));

    // An empty text is refused without a comparison, so the one that follows is compared first.
    let path = format!("/projects/{id}/rules/guidelines");
    let rules =
        |last: &str, text: &str| encode(&[("last", last), ("en", text), ("action", "publish")]);
    let shown = last(&second.get(&path).await);
    let done = first.post(&path, &rules(&shown, "Be kind.")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let empty = second.post(&path, &rules(&shown, " ")).await;
    assert!(empty.body.contains("since you opened this page"));
    let refused = second.post(&path, &rules(&last(&empty), "Be brief.")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body.contains("Be kind."), "{}", refused.body);
    assert_eq!(n_events(&db, "guidelines_published").await, 1);
    let seen = rules(&last(&refused), "Be brief.");
    let done = second.post(&path, &seen).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn guidelines_that_somebody_published_meanwhile_are_compared_first(db: PgPool) {
    let id = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let [first, second] = two_admins(&app).await;
    for (subject, action) in [
        ("guidelines", "guidelines_published"),
        ("consent", "consent_published"),
    ] {
        let path = format!("/projects/{id}/rules/{subject}");
        let shown = last(&second.get(&path).await);
        let rules =
            |last: &str, text: &str| encode(&[("last", last), ("en", text), ("action", "publish")]);
        let done = first.post(&path, &rules(&shown, "Be kind.")).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
        let refused = second.post(&path, &rules(&shown, "Be brief.")).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        for part in ["since you opened this page", "Be kind.", "Be brief."] {
            assert!(refused.body.contains(part), "{part} in {}", refused.body);
        }
        assert_eq!(n_events(&db, action).await, 1);
        let seen = last(&refused);
        let done = second.post(&path, &rules(&seen, "Be brief.")).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER);
        assert_eq!(n_events(&db, action).await, 2);

        let shown = last(&first.get(&path).await);
        let (one, other) = (rules(&shown, "One."), rules(&shown, "Other."));
        let (one, other) = tokio::join!(first.post(&path, &one), second.post(&path, &other));
        let mut statuses = [one.status, other.status];
        statuses.sort();
        assert_eq!(statuses, [StatusCode::SEE_OTHER, StatusCode::CONFLICT]);
        assert_eq!(n_events(&db, action).await, 3);
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_reviews_ask_is_edited_beside_what_is_asked_of_candidates(db: PgPool) {
    let id = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let path = format!("/projects/{id}/form");
    let page = admin.get(&path).await;
    let html = Html::parse_document(&page.body);
    let inputs = Selector::parse("#form input[name]").unwrap();
    let mut fields: Vec<(String, String)> = html
        .select(&inputs)
        .map(|input| {
            let value = |name: &str| input.value().attr(name).unwrap_or_default().to_owned();
            (value("name"), value("value"))
        })
        .collect();
    for (name, _) in &fields {
        let part = name.split('-').next().unwrap();
        let known = [
            "last",
            "review",
            "overall",
            "scales",
            "flags",
            "reasons",
            "promptflags",
            "pii",
            "languages",
        ];
        assert!(known.contains(&part), "{name}");
    }
    let mut change = |name: &str, value: &str| {
        let field = fields.iter_mut().find(|(own, _)| own == name);
        field.unwrap_or_else(|| panic!("no {name}")).1 = value.to_owned();
    };
    change("promptflags-0-key", "vague");
    change("pii-0-label-en", "Name of anybody");
    change("languages-0-label-zh", "英文");
    fields.push(("action".to_owned(), "publish".to_owned()));
    fields.push(("same_meaning".to_owned(), "yes".to_owned()));
    let form: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let done = admin.post(&path, &encode(&form)).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let fields: serde_json::Value =
        sqlx::query_scalar("SELECT fields FROM forms ORDER BY version DESC LIMIT 1")
            .fetch_one(&db)
            .await
            .unwrap();
    assert_eq!(fields["prompt_flags"][0]["key"], "vague");
    assert_eq!(fields["pii_kinds"][0]["label"]["en"], "Name of anybody");
    assert_eq!(fields["languages"][0]["label"]["zh"], "英文");
    let page = admin.get(&path).await;
    assert!(page.body.contains("vague: new"), "{}", page.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn cut_offs_that_somebody_saved_meanwhile_are_not_saved_over(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let [first, second] = two_admins(&app).await;
    let shown = last(&second.get("/screening?project=study").await);
    let form = |last: &str, flags: &str, grade: &str| {
        encode(&[
            ("project", "study"),
            ("last", last),
            ("least_flags", flags),
            ("least_ranks", "75"),
            ("least_demonstrations", grade),
            ("graders", "1"),
        ])
    };
    let post = async |admin: &Client<'_>, form: String| admin.post("/screening/rules", &form).await;
    let done = post(&first, form(&shown, "80", "6")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    // A typo comes back as it was typed, and hides nothing.
    let typo = post(&second, form(&shown, "60.5", "8")).await;
    assert_eq!(typo.status, StatusCode::UNPROCESSABLE_ENTITY);
    for typed in ["value=\"60.5\"", "value=\"8\""] {
        assert!(typo.body.contains(typed), "{typed} in {}", typo.body);
    }
    let refused = post(&second, form(&last(&typo), "60.5", "5")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    for part in [
        "Somebody saved other cut-offs",
        "80 % → 60.5 %",
        "6 → 5",
        "value=\"60.5\"",
    ] {
        assert!(refused.body.contains(part), "{part} in {}", refused.body);
    }
    let done = post(&second, form(&last(&refused), "60.5", "6")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    let page = second.get("/screening?project=study").await;
    assert!(page.body.contains("value=\"60.5\""), "{}", page.body);
    let told: Vec<serde_json::Value> = sqlx::query_scalar(
        "SELECT data FROM audit_events WHERE action = 'screening_rules' ORDER BY id",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let change =
        |from: &str, to: &str| serde_json::json!({"least_flags": {"from": from, "to": to}});
    assert_eq!(told, [change("0.75", "0.8"), change("0.8", "0.605")]);
}
