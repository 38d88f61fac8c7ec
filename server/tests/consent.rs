//! Consent can be declined and withdrawn, and neither it nor guidelines that were not read keep anybody from
//! their other projects.

use axum::http::StatusCode;
use server::domain::ids::{AccountId, ProjectId};
use server::domain::snapshot::{Labels, Selection, SnapshotKind};
use server::domain::snapshot_filters::Filters;
use server::exchange::export::{create_snapshot, write_snapshot};
use server::store;
use sqlx::PgPool;

use crate::screening::assignment_of;
use crate::support::{Answer, Client, TestApp, encode, fake};

const RANKING: &str =
    "rank-1=1&rank-2=2&rank-3=3&rank-4=4&note=&action=submit&idempotency_key=k&confirmed=yes";

/// Two projects with two tasks each, of which the older one asks for a consent.
async fn two(db: &PgPool, app: &TestApp) -> (ProjectId, ProjectId) {
    let mut ids = Vec::new();
    for (slug, name) in [("first", "First"), ("second", "Second")] {
        let id = fake::project(db, 2, 4, 2, 3600).await;
        sqlx::query("UPDATE projects SET slug = $2, name = $3 WHERE id = $1")
            .bind(id.0)
            .bind(slug)
            .bind(name)
            .execute(db)
            .await
            .unwrap();
        ids.push(id);
    }
    let admin = app.admin().await;
    publish(&admin, ids[0], "consent", "We keep your **labels**.").await;
    (ids[0], ids[1])
}

async fn publish(admin: &Client<'_>, id: ProjectId, subject: &str, en: &str) {
    let form = encode(&[("en", en), ("zh", ""), ("action", "publish")]);
    let path = format!("/projects/{id}/rules/{subject}");
    let answer = admin.post(&path, &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
}

fn found(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    answer.location.clone().unwrap()
}

/// The project of the task at an address.
async fn project_of(db: &PgPool, path: &str) -> ProjectId {
    let id = assignment_of(path).0;
    let project: uuid::Uuid = sqlx::query_scalar(
        "SELECT t.project_id FROM assignments a JOIN tasks t ON t.id = a.task_id WHERE a.id = $1",
    )
    .bind(id)
    .fetch_one(db)
    .await
    .unwrap();
    ProjectId(project)
}

async fn actions(db: &PgPool, who: AccountId) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT action FROM audit_events WHERE account_id = $1 AND action LIKE ANY (ARRAY['consent%', 'labels%'])
         ORDER BY id",
    )
    .bind(who.0)
    .fetch_all(db)
    .await
    .unwrap()
}

async fn snapshot(db: &PgPool, project_id: ProjectId) -> Option<String> {
    let selection = Selection {
        project_id,
        kind: SnapshotKind::Rankings,
        name: "labels".to_owned(),
        categories: Vec::new(),
        include_simulated: false,
        reviewed_categories: false,
        include_personal: false,
        labels: Labels::default(),
        filters: Filters::default(),
    };
    let id = create_snapshot(db, &selection, None).await.ok()?;
    let mut bytes = Vec::new();
    let mut db = db.acquire().await.unwrap();
    write_snapshot(&mut db, id, &mut bytes).await.unwrap();
    Some(String::from_utf8(bytes).unwrap())
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_was_not_read_in_one_project_keeps_nobody_from_another(db: PgPool) {
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let (first, second) = two(&db, &app).await;
    fake::acknowledge(&db).await;
    // The first project's consent is new, so that the second one's tasks come.
    let task = ada.open_task().await;
    assert_eq!(project_of(&db, &task).await, second);
    let next = found(&ada.post(&task, RANKING).await);
    assert_eq!(project_of(&db, &next).await, second);
    let home = ada.get("/").await.body;
    assert!(home.contains("First: a new consent"), "{home}");
    // When nothing else is left, what waits to be read comes up.
    let last = found(&ada.post(&next, RANKING).await);
    assert_eq!(
        last,
        format!("/guidelines?submitted=in-time#project-{first}")
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_declined_consent_gives_no_task_and_is_not_asked_again_until_it_changes(db: PgPool) {
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let (first, second) = two(&db, &app).await;
    fake::acknowledge(&db).await;
    let page = ada.get("/guidelines").await.body;
    assert!(page.contains("I do not agree"), "{page}");
    let no = format!("project_id={first}&version=1");
    let back = found(&ada.post("/guidelines/refusals", &no).await);
    assert_eq!(back, format!("/guidelines#consent-{first}"));
    let page = ada.get("/guidelines").await.body;
    assert!(page.contains("You do not agree to this"), "{page}");
    assert!(
        page.contains("I have read this and agree"),
        "it can be agreed to later"
    );
    assert!(!page.contains("waits to be read"));
    assert!(!ada.get("/").await.body.contains("First: a new consent"));
    for _ in 0..2 {
        let task = ada.open_task().await;
        assert_eq!(project_of(&db, &task).await, second);
        ada.post(&task, RANKING).await;
    }
    // The first project's tasks are not even counted.
    assert_eq!(found(&ada.post("/work", "").await), "/work");
    assert!(ada.get("/work").await.body.contains("Nothing is waiting"));
    let who = ada.account_id.unwrap();
    assert_eq!(actions(&db, who).await, ["consent_declined"]);

    // A new version is another question.
    publish(
        &app.sign_in(admin_id(&db).await).await,
        first,
        "consent",
        "We keep **nothing**.",
    )
    .await;
    assert_eq!(
        found(&ada.post("/work", "").await),
        format!("/guidelines#project-{first}")
    );
    let old = ada.post("/guidelines/refusals", &no).await;
    assert_eq!(old.status, StatusCode::CONFLICT);
    let yes = format!("project_id={first}&subject=consent&version=2");
    found(&ada.post("/guidelines/acknowledgements", &yes).await);
    assert_eq!(project_of(&db, &ada.open_task().await).await, first);
    // Somebody else's project, or none, is not theirs to refuse.
    let nowhere = format!("project_id={}&version=1", ProjectId::new());
    let nowhere = ada.post("/guidelines/refusals", &nowhere).await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
    let admin = app.sign_in(admin_id(&db).await).await;
    let refused = admin.post("/guidelines/refusals", &no).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

async fn admin_id(db: &PgPool) -> AccountId {
    let id = sqlx::query_scalar("SELECT id FROM accounts WHERE email = 'admin@example.org'");
    AccountId(id.fetch_one(db).await.unwrap())
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_withdrawn_consent_gives_leases_back_and_leaves_labels_out_until_it_is_given_again(
    db: PgPool,
) {
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let bob = app.labeler("bob").await;
    let (first, second) = two(&db, &app).await;
    fake::acknowledge(&db).await;
    let yes = format!("project_id={first}&subject=consent&version=1");
    for labeler in [&ada, &bob] {
        found(&labeler.post("/guidelines/acknowledgements", &yes).await);
        let task = labeler.open_task().await;
        assert_eq!(project_of(&db, &task).await, first);
        found(&labeler.post(&task, RANKING).await);
    }
    let who = ada.account_id.unwrap();
    let before = snapshot(&db, first).await.unwrap();
    assert_eq!(before.lines().count(), 2);
    assert!(
        ada.get("/guidelines")
            .await
            .body
            .contains("Withdraw my consent")
    );
    let held = "SELECT count(*) FROM assignments WHERE labeler_id = $1 AND status = 'leased'";
    let held = async || -> i64 {
        let held = sqlx::query_scalar(held).bind(who.0);
        held.fetch_one(&db).await.unwrap()
    };
    assert_eq!(held().await, 1);
    let no = format!("project_id={first}&version=1&withdraw=true");
    found(&ada.post("/guidelines/refusals", &no).await);
    assert_eq!(held().await, 0, "the task goes back to the others");
    let task = ada.open_task().await;
    assert_eq!(project_of(&db, &task).await, second);
    assert_eq!(
        actions(&db, who).await,
        ["consent_withdrawn", "labels_withdrawn"]
    );
    let after = snapshot(&db, first).await.unwrap();
    assert_eq!(after.lines().count(), 1);
    assert!(!after.contains(&who.to_string()));

    // An admin sees it, and cannot take the labels in again against the labeler's word.
    let admin = app.sign_in(admin_id(&db).await).await;
    let path = format!("/projects/{first}/withdrawals");
    let page = admin.get(&path).await.body;
    assert!(page.contains("by withdrawing their consent"), "{page}");
    let end = admin.post(&format!("{path}/{who}/end"), "").await;
    assert_eq!(end.status, StatusCode::CONFLICT);
    assert_eq!(snapshot(&db, first).await.unwrap().lines().count(), 1);

    // Whoever agrees again is in again; that they once did not is kept.
    found(&ada.post("/guidelines/acknowledgements", &yes).await);
    assert_eq!(snapshot(&db, first).await.unwrap().lines().count(), 2);
    assert_eq!(actions(&db, who).await.last().unwrap(), "labels_restored");
    let kept: (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(agreed_at) FROM consent_refusals WHERE account_id = $1",
    )
    .bind(who.0)
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(kept, (1, 1));

    // What an admin withdrew the labeler's agreement does not bring back.
    let form = format!("account_id={who}");
    found(&admin.post(&path, &form).await);
    found(&ada.post("/guidelines/acknowledgements", &yes).await);
    assert_eq!(snapshot(&db, first).await.unwrap().lines().count(), 1);
    // Their own word stands above an admin's: to end it is theirs again.
    found(&ada.post("/guidelines/refusals", &no).await);
    let end = admin.post(&format!("{path}/{who}/end"), "").await;
    assert_eq!(end.status, StatusCode::CONFLICT);
    let mut connection = db.acquire().await.unwrap();
    let all = store::label_withdrawals::list(&mut connection, first)
        .await
        .unwrap();
    assert_eq!(all.iter().filter(|own| own.ended_at.is_none()).count(), 1);
}
