//! Texts of candidates: graded by admins who do not know whose they are, and never part of a dataset.

use axum::http::StatusCode;
use server::domain::ids::{AccountId, AssignmentId, ScreeningId};
use server::domain::role::{MemberRole, Role};
use server::domain::snapshot::{Labels, Selection, SnapshotKind};
use server::exchange::export::create_snapshot;
use server::store;
use sqlx::PgPool;

use crate::screening::{assignment_of, invite, next, start, status};
use crate::support::{Client, TestApp, encode, fake};

/// A project without tasks whose candidates answer these prompts.
async fn ready(db: &PgPool, app: &TestApp, prompts: &[&str], graders: &str) {
    let project = fake::project(db, 0, 4, 1, 3600).await;
    let maker = app.client("maker", &[Role::Admin]).await;
    for (number, text) in prompts.iter().enumerate() {
        fake::prompt(db, project, &format!("d{number}"), text).await;
        let form = format!("project=study&prompt=d{number}");
        let added = maker.post("/screening/demonstrations", &form).await;
        assert_eq!(added.status, StatusCode::SEE_OTHER, "{}", added.body);
        let twice = maker.post("/screening/demonstrations", &form).await;
        assert_eq!(twice.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let unknown = maker
        .post("/screening/demonstrations", "project=study&prompt=nope")
        .await;
    assert_eq!(unknown.status, StatusCode::UNPROCESSABLE_ENTITY);
    let rules = format!(
        "project=study&least_flags=75&least_ranks=75&least_demonstrations=6&graders={graders}"
    );
    let saved = maker.post("/screening/rules", &rules).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.body);
}

/// Submits a text by the page, and returns where the page leads.
async fn write(candidate: &Client<'_>, id: AssignmentId, text: &str) -> String {
    let path = format!("/demonstrate/{id}");
    let page = candidate.get(&path).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let form = [
        ("response", text),
        ("idempotency_key", "k"),
        ("action", "submit"),
    ];
    let answer = candidate.post(&path, &encode(&form)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    answer.location.unwrap()
}

/// The task that the grading page asks this admin about, and the whole page.
async fn shown(admin: &Client<'_>) -> (Option<String>, String) {
    let page = admin.get("/screening/grading").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let html = scraper::Html::parse_document(&page.body);
    let css = scraper::Selector::parse("input[name='task_id']").unwrap();
    let task = html.select(&css).next();
    let task = task.map(|field| field.attr("value").unwrap().to_owned());
    (task, page.body)
}

async fn grade(admin: &Client<'_>, task: &str, grade: &str) -> StatusCode {
    let form = [("task_id", task), ("grade", grade), ("note", "warm")];
    admin
        .post("/screening/grading", &encode(&form))
        .await
        .status
}

async fn roles(db: &PgPool, id: AccountId) -> Vec<String> {
    sqlx::query_scalar("SELECT roles FROM accounts WHERE id = $1")
        .bind(id.0)
        .fetch_one(db)
        .await
        .unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_text_is_graded_without_a_name_and_the_last_grade_decides(db: PgPool) {
    let app = TestApp::new(db.clone());
    ready(&db, &app, &["Why is the sea salty?", "Greet a guest."], "2").await;
    let (alice, bert) = (
        app.client("alice", &[Role::Admin]).await,
        app.client("bert", &[Role::Admin]).await,
    );
    let (zoe, id) = invite(&app, &alice, "zoe").await;
    let who = zoe.account_id.unwrap();
    assert_eq!(shown(&alice).await.0, None);
    let page = zoe.get(&format!("/screening/{id}")).await;
    assert!(page.body.contains("6 of 7"), "{}", page.body);
    let first = start(&zoe, id).await;
    let on = write(&zoe, first, "Rivers bring **salt**.").await;
    // What goes on can be corrected, so that nobody grades it yet.
    assert_eq!(shown(&alice).await.0, None);
    let over = write(&zoe, assignment_of(&on), "Good day!").await;
    assert_eq!(over, "/screening?submitted=in-time");
    assert_eq!(status(&db, id).await, "waiting");
    let page = zoe.get(&format!("/screening/{id}")).await;
    assert!(page.body.contains("People are reading"), "{}", page.body);
    let closed = zoe.get(&format!("/demonstrate/{first}")).await;
    assert_eq!(closed.status, StatusCode::FORBIDDEN);

    let (task, page) = shown(&alice).await;
    assert!(
        page.contains("Why is the sea salty?") || page.contains("Greet a guest."),
        "{page}"
    );
    assert!(
        page.contains("<strong>salt</strong>") || page.contains("Good day!"),
        "{page}"
    );
    assert!(page.contains("2 texts wait"), "{page}");
    let hidden = [
        "zoe".to_owned(),
        who.to_string(),
        id.to_string(),
        first.to_string(),
    ];
    for word in hidden {
        assert!(!page.contains(&word), "{word} in {page}");
    }
    let task = task.unwrap();
    for wrong in ["0", "8", "", "best"] {
        assert_eq!(
            grade(&alice, &task, wrong).await,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{wrong}"
        );
    }
    assert_eq!(grade(&alice, &task, "7").await, StatusCode::SEE_OTHER);
    assert_eq!(grade(&alice, &task, "6").await, StatusCode::CONFLICT);
    let (other, _) = shown(&alice).await;
    let other = other.unwrap();
    assert_ne!(other, task, "each text once");
    assert_eq!(grade(&alice, &other, "6").await, StatusCode::SEE_OTHER);
    assert_eq!(shown(&alice).await.0, None);
    assert_eq!(status(&db, id).await, "waiting", "two admins grade");
    assert_eq!(grade(&bert, &task, "5").await, StatusCode::SEE_OTHER);
    assert_eq!(roles(&db, who).await, Vec::<String>::new());
    assert_eq!(grade(&bert, &other, "6").await, StatusCode::SEE_OTHER);

    // (7 + 5) / 2 and (6 + 6) / 2: just enough.
    assert_eq!(status(&db, id).await, "passed");
    assert_eq!(roles(&db, who).await, ["labeler"]);
    let events: Vec<String> = sqlx::query_scalar(
        "SELECT action FROM audit_events WHERE action LIKE 'screening%' ORDER BY id",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(events.last().unwrap(), "screening_passed", "{events:?}");
    let n_grades: i64 = sqlx::query_scalar("SELECT count(*) FROM grades")
        .fetch_one(&db)
        .await
        .unwrap();
    let told = crate::audit::actions(&db).await.into_iter();
    let n_told = told.filter(|action| action == "screening_graded").count();
    assert_eq!((n_grades > 1, n_told as i64), (true, n_grades));
    let page = zoe.get(&format!("/screening/{id}")).await;
    assert!(page.body.contains("6.0 of 7 (n = 2)"), "{}", page.body);
    let page = alice.get(&format!("/screening/{id}")).await;
    assert!(page.body.contains("6.0 of 7 (n = 2)"), "{}", page.body);
    assert!(page.body.contains("<bdi>warm</bdi>"), "notes of graders");
    assert_eq!(
        grade(&bert, &task, "1").await,
        StatusCode::NOT_FOUND,
        "over"
    );
    for statement in ["UPDATE grades SET grade = 1", "DELETE FROM grades"] {
        assert!(sqlx::query(statement).execute(&db).await.is_err());
    }
    // Nothing of it is a demonstration for a model.
    let selection = Selection {
        project_id: store::projects::find_by_slug(&mut db.acquire().await.unwrap(), "study")
            .await
            .unwrap()
            .unwrap()
            .id,
        kind: SnapshotKind::Demonstrations,
        name: "all".to_owned(),
        categories: Vec::new(),
        include_simulated: true,
        reviewed_categories: false,
        include_personal: true,
        labels: Labels::default(),
        filters: server::domain::snapshot_filters::Filters::default(),
    };
    let refused = create_snapshot(&db, &selection, None).await.unwrap_err();
    assert!(refused.to_string().contains("nothing matches"), "{refused}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_text_that_was_not_written_counts_one_and_fewer_graders_decide_at_once(db: PgPool) {
    let app = TestApp::new(db.clone());
    ready(&db, &app, &["Why is the sea salty?", "Greet a guest."], "3").await;
    let admin = app.admin().await;
    let (zoe, id) = invite(&app, &admin, "zoe").await;
    let first = start(&zoe, id).await;
    write(&zoe, first, "Salt.").await;
    let second = next(&zoe, id).await.unwrap();
    let skip = "action=skip&reason=unclear_prompt&skip_note=";
    let answer = zoe.post(&format!("/demonstrate/{second}"), skip).await;
    assert_eq!(answer.location.as_deref(), Some("/screening"));
    assert_eq!(status(&db, id).await, "waiting");
    let (task, page) = shown(&admin).await;
    assert!(
        page.contains("One text waits"),
        "a skipped one is not shown: {page}"
    );
    assert_eq!(
        grade(&admin, &task.unwrap(), "7").await,
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        status(&db, id).await,
        "waiting",
        "two more grades are needed"
    );
    let rules =
        "project=study&least_flags=75&least_ranks=75&least_demonstrations=4.5&graders=1".to_owned();
    admin.post("/screening/rules", &rules).await;
    // (7 + 1) / 2 is less than four and a half.
    assert_eq!(status(&db, id).await, "failed");
    let page = zoe.get(&format!("/screening/{id}")).await;
    assert!(page.body.contains("4.0 of 7 (n = 2)"), "{}", page.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn nobody_grades_their_own_text_and_only_admins_of_the_project_grade(db: PgPool) {
    let app = TestApp::new(db.clone());
    ready(&db, &app, &["Why is the sea salty?"], "1").await;
    let admin = app.admin().await;
    // An admin without the role of a labeler can be a candidate like everybody else.
    let paula = app.client("paula", &[Role::Admin]).await;
    let form = "project=study&email=paula%40example.org&name=paula";
    let invited = admin.post("/screening/candidates", form).await;
    assert_eq!(invited.status, StatusCode::OK, "{}", invited.body);
    let id: uuid::Uuid = sqlx::query_scalar("SELECT id FROM screenings")
        .fetch_one(&db)
        .await
        .unwrap();
    let id = ScreeningId(id);
    let first = start(&paula, id).await;
    write(&paula, first, "Salt.").await;
    assert_eq!(shown(&paula).await.0, None);
    let task: uuid::Uuid = sqlx::query_scalar("SELECT task_id FROM screening_items")
        .fetch_one(&db)
        .await
        .unwrap();
    let task = task.to_string();
    assert_eq!(grade(&paula, &task, "7").await, StatusCode::NOT_FOUND);

    let (ada, olga) = (app.labeler("ada").await, app.operator().await);
    for other in [&ada, &olga] {
        assert_eq!(grade(other, &task, "7").await, StatusCode::FORBIDDEN);
        let page = other.get("/screening/grading").await;
        assert_eq!(page.status, StatusCode::FORBIDDEN);
    }
    // An admin of another project alone.
    let mut connection = db.acquire().await.unwrap();
    let elsewhere =
        store::projects::insert(&mut connection, "elsewhere", "Elsewhere", 1, 3600).await;
    let who = ada.account_id.unwrap();
    let elsewhere = elsewhere.unwrap();
    store::members::assign(&mut connection, elsewhere, who, &[], None)
        .await
        .unwrap();
    store::members::set_role(&mut connection, elsewhere, who, MemberRole::Admin)
        .await
        .unwrap();
    assert_eq!(shown(&ada).await.0, None);
    assert_eq!(grade(&ada, &task, "7").await, StatusCode::NOT_FOUND);
    assert_eq!(status(&db, id).await, "waiting");
    assert_eq!(grade(&admin, &task, "6").await, StatusCode::SEE_OTHER);
    assert_eq!(status(&db, id).await, "passed");
    let mut now = roles(&db, paula.account_id.unwrap()).await;
    now.sort_unstable();
    assert_eq!(now, ["admin", "labeler"]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_of_one_project_invites_who_is_known_and_gets_no_link_to_sign_in(db: PgPool) {
    let app = TestApp::new(db.clone());
    ready(&db, &app, &["Why is the sea salty?"], "1").await;
    let operator = app.operator().await;
    let mut connection = db.acquire().await.unwrap();
    let project = store::projects::find_by_slug(&mut connection, "study").await;
    let project = project.unwrap().unwrap().id;
    let paula = store::accounts::insert(&mut connection, "paula@example.org", "paula", &[], false);
    let paula = paula.await.unwrap();
    store::members::assign(&mut connection, project, paula, &[], None)
        .await
        .unwrap();
    store::members::set_role(&mut connection, project, paula, MemberRole::Admin)
        .await
        .unwrap();
    drop(connection);
    let paula = app.sign_in(paula).await;
    let links = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM sign_in_links");
        count.fetch_one(&db).await.unwrap()
    };
    let before = links().await;
    let page = paula.get("/screening").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(!page.body.contains("name=\"name\""), "{}", page.body);
    let invite = async |email: &str| {
        let form = encode(&[("project", "study"), ("email", email), ("name", "N")]);
        paula.post("/screening/candidates", &form).await
    };
    let unknown = invite("nobody@example.org").await;
    assert_eq!(unknown.status, StatusCode::UNPROCESSABLE_ENTITY);
    let known = invite("operator@example.org").await;
    assert_eq!(known.status, StatusCode::SEE_OTHER, "{}", known.body);
    assert_eq!(links().await, before);
    let own = operator.get("/screening").await.location.unwrap();
    assert!(own.starts_with("/screening/"), "{own}");
    let home = operator.get("/").await;
    assert!(home.body.contains("href=\"/screening"), "{}", home.body);
}
