//! Screening: a candidate without any role works on their own copies of the screening tasks and on nothing
//! else, and becomes a labeler in the transaction that decides.

use axum::http::StatusCode;
use rand::SeedableRng;
use serde_json::{Value, json};
use server::domain::ids::{AccountId, AssignmentId, ProjectId, ScreeningId, TaskId};
use server::domain::snapshot::{Labels, Selection, SnapshotKind};
use server::exchange::export::create_snapshot;
use server::store;
use sqlx::PgPool;

use crate::gold::{submit, tasks};
use crate::support::{Client, TestApp, fake};

/// Writes a right answer down for screening, by the page of a task.
pub(crate) async fn make_screening_task(admin: &Client<'_>, task: TaskId, fields: &str) -> TaskId {
    let form = format!("purpose=screening&{fields}");
    let answer = admin.post(&format!("/tasks/{task}/gold"), &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let made = answer.location.unwrap();
    made.strip_prefix("/tasks/").unwrap().parse().unwrap()
}

/// Invites somebody by the page and signs them in by the link that it shows.
pub(crate) async fn invite<'app>(
    app: &'app TestApp,
    admin: &Client<'_>,
    name: &str,
) -> (Client<'app>, ScreeningId) {
    let form = format!("project=study&email={name}%40example.org&name={name}");
    let page = admin.post("/screening/candidates", &form).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(page.body.contains("id=\"invite-link\""), "{}", page.body);
    let row: (uuid::Uuid, uuid::Uuid, Vec<String>) = sqlx::query_as(
        "SELECT a.id, s.id, a.roles FROM accounts a JOIN screenings s ON s.account_id = a.id
         WHERE a.email = $1 ORDER BY s.id DESC LIMIT 1",
    )
    .bind(format!("{name}@example.org"))
    .fetch_one(&app.state.db)
    .await
    .unwrap();
    assert!(row.2.is_empty(), "a candidate has no role");
    (app.sign_in(AccountId(row.0)).await, ScreeningId(row.1))
}

/// Begins, and returns the first task's assignment.
pub(crate) async fn start(candidate: &Client<'_>, id: ScreeningId) -> AssignmentId {
    let form = "topics=religion&topics=politics&words=I+teach+history.&read=true";
    let path = format!("/screening/{id}/start");
    let answer = candidate.post(&path, form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    assignment_of(&answer.location.unwrap())
}

pub(crate) fn assignment_of(path: &str) -> AssignmentId {
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    path.rsplit('/').next().unwrap().parse().unwrap()
}

/// Goes on; none when all is done.
pub(crate) async fn next(candidate: &Client<'_>, id: ScreeningId) -> Option<AssignmentId> {
    let path = format!("/screening/{id}/next");
    let answer = candidate.post(&path, "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let location = answer.location.unwrap();
    (location != "/screening").then(|| assignment_of(&location))
}

pub(crate) async fn status(db: &PgPool, id: ScreeningId) -> String {
    sqlx::query_scalar("SELECT status FROM screenings WHERE id = $1")
        .bind(id.0)
        .fetch_one(db)
        .await
        .unwrap()
}

/// A project whose screening asks two tasks: flags and two pairs of the first, three pairs of the second.
async fn ready(db: &PgPool, app: &TestApp) -> (ProjectId, Vec<TaskId>) {
    let project = fake::project(db, 4, 4, 1, 3600).await;
    let all = tasks(db).await;
    let admin = app
        .client("maker", &[server::domain::role::Role::Admin])
        .await;
    let first = "rank-1=1&rank-2=2&rank-3=2&flag-1-hallucination=yes&flag-2-hallucination=no";
    let second = "rank-2=1&rank-3=2&rank-4=3";
    let sources = vec![
        make_screening_task(&admin, all[2], first).await,
        make_screening_task(&admin, all[3], second).await,
    ];
    (project, sources)
}

fn flags(first: bool, second: bool) -> Value {
    json!({"0": {"hallucination": first}, "1": {"hallucination": second}})
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn whoever_passes_is_a_labeler_and_a_member_at_once(db: PgPool) {
    let app = TestApp::new(db.clone());
    let (project, sources) = ready(&db, &app).await;
    let admin = app.admin().await;
    let (zoe, id) = invite(&app, &admin, "zoe").await;
    let who = zoe.account_id.unwrap();
    sqlx::query("UPDATE projects SET is_open = FALSE, gold_share = 0.5")
        .execute(&db)
        .await
        .unwrap();

    // What is asked, and what is needed; nothing of the answers.
    let page = zoe.get(&format!("/screening/{id}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    for words in ["2 tasks", "75 %", "Be fair", "comfortable identifying"] {
        assert!(page.body.contains(words), "{words} in {}", page.body);
    }
    assert_eq!(
        zoe.get("/screening").await.location,
        Some(format!("/screening/{id}"))
    );
    let unread = zoe
        .post(&format!("/screening/{id}/start"), "words=hm")
        .await;
    assert_eq!(unread.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        unread.body.contains(">hm</textarea>"),
        "what was typed stays"
    );
    let wrong = format!("/screening/{id}/start");
    let wrong = zoe.post(&wrong, "topics=gossip&read=true").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);

    let first = start(&zoe, id).await;
    let again = zoe
        .post(&format!("/screening/{id}/start"), "read=true")
        .await;
    assert_eq!(assignment_of(&again.location.unwrap()), first, "begun once");
    let read: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM acknowledgements WHERE account_id = $1 AND subject = 'guidelines'",
    )
    .bind(who.0)
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(read, 1);
    let page = zoe.get(&format!("/rank/{first}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(
        page.body.contains("0 submitted, 1 waiting"),
        "{}",
        page.body
    );
    for word in ["screening_", "purpose", "gold", "secret-model"] {
        assert!(!page.body.contains(word), "{word}");
    }
    // A draft by the page's own script, then a submission by page, then by the API.
    let draft = json!({"candidates": [{"position": 1, "rank": 2}]});
    let path = format!("/api/v1/assignments/{first}/draft");
    let saved = zoe.send_json("PUT", &path, &[], &draft).await;
    assert_eq!(saved.status, StatusCode::OK, "{}", saved.body);
    let mut seen = Vec::new();
    let mut current = Some(first);
    while let Some(id_of_task) = current {
        let source: uuid::Uuid = sqlx::query_scalar(
            "SELECT i.source_id FROM screening_items i JOIN assignments a ON a.task_id = i.task_id WHERE a.id = $1",
        )
        .bind(id_of_task.0)
        .fetch_one(&db)
        .await
        .unwrap();
        seen.push(source);
        // Of five pairs four and a half, of two flags both.
        match source == sources[0].0 {
            true => submit(&db, &zoe, id_of_task, &[1, 2, 3, 4], flags(true, false)).await,
            false => submit(&db, &zoe, id_of_task, &[4, 1, 2, 2], json!({})).await,
        }
        current = next_or_done(&zoe, &db, id).await;
    }
    seen.sort_unstable();
    assert_eq!(seen, sources.iter().map(|task| task.0).collect::<Vec<_>>());
    assert_eq!(status(&db, id).await, "passed");
    // The page that sent the last answer goes on to how it went, not to a task of the queue.
    let on = zoe.post("/work?screening=true", "").await;
    assert_eq!(on.location.as_deref(), Some("/screening"));
    assert_eq!(
        zoe.get("/screening").await.location,
        Some(format!("/screening/{id}"))
    );
    let account: (Vec<String>, i64) = sqlx::query_as(
        "SELECT roles, (SELECT count(*) FROM members m WHERE m.account_id = a.id AND m.project_id = $2)
         FROM accounts a WHERE id = $1",
    )
    .bind(who.0)
    .bind(project.0)
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(account, (vec!["labeler".to_owned()], 1));
    let page = zoe.get(&format!("/screening/{id}")).await;
    assert!(page.body.contains("You have passed"), "{}", page.body);
    assert!(page.body.contains("90 % (n = 5)"), "{}", page.body);
    assert!(page.body.contains("100 % (n = 2)"), "{}", page.body);
    let page = admin.get("/screening").await;
    for words in ["90 % (n = 5)", "Religion, Politics", "I teach history."] {
        assert!(page.body.contains(words), "{words} in {}", page.body);
    }
    let page = admin.get(&format!("/screening/{id}")).await;
    assert!(page.body.contains("83 % (n = 3)"), "{}", page.body);

    // What was scored stands: a labeler now, they find none of it among what they can correct.
    let history = zoe.get("/work/history").await;
    assert_eq!(history.status, StatusCode::OK);
    assert!(!history.body.contains(&first.to_string()));
    let over = zoe.get(&format!("/rank/{first}")).await;
    assert_eq!(over.location.as_deref(), Some("/work/history"));
    let correction = format!("/api/v1/assignments/{first}/submission?replaces=1");
    let ranks = (1..=4).map(|position| json!({"position": position, "rank": position}));
    let body = json!({"candidates": ranks.collect::<Vec<_>>()});
    let headers = [("idempotency-key", "better")];
    let refused = zoe.send_json("POST", &correction, &headers, &body).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
    assert!(refused.body.contains("correct"), "{}", refused.body);

    // From now on they label; what the screening asked comes last.
    let mut order = Vec::new();
    let mut connection = db.acquire().await.unwrap();
    for seed in 0..4 {
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
        let lease = store::queue::lease(&mut connection, project, who, &mut rng)
            .await
            .unwrap()
            .unwrap();
        order.push(lease.task_id);
    }
    assert_eq!(order, tasks(&db).await);
    drop(connection);
    let selection = Selection {
        project_id: project,
        kind: SnapshotKind::Rankings,
        name: "all".to_owned(),
        categories: Vec::new(),
        include_simulated: true,
        reviewed_categories: false,
        include_personal: false,
        labels: Labels::All,
        filters: server::domain::snapshot_filters::Filters::default(),
    };
    let refused = create_snapshot(&db, &selection, None).await;
    assert!(refused.unwrap_err().to_string().contains("nothing matches"));
}

/// Goes on, where the screening is not over.
async fn next_or_done(
    candidate: &Client<'_>,
    db: &PgPool,
    id: ScreeningId,
) -> Option<AssignmentId> {
    match status(db, id).await.as_str() {
        "started" => next(candidate, id).await,
        _ => None,
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn whoever_fails_is_told_kindly_and_comes_again_only_by_a_new_invitation(db: PgPool) {
    let app = TestApp::new(db.clone());
    ready(&db, &app).await;
    let admin = app.admin().await;
    let (zoe, id) = invite(&app, &admin, "zoe").await;
    let who = zoe.account_id.unwrap();
    let form = "project=study&email=zoe%40example.org&name=zoe";
    let twice = admin.post("/screening/candidates", form).await;
    assert_eq!(twice.status, StatusCode::CONFLICT, "one at a time");
    let first = start(&zoe, id).await;
    submit(&db, &zoe, first, &[1, 1, 1, 1], flags(true, true)).await;
    // What is skipped counts as not agreed.
    let second = next(&zoe, id).await.unwrap();
    let path = format!("/rank/{second}");
    let skip = "action=skip&reason=unclear_prompt&skip_note=";
    assert_eq!(
        zoe.post(&path, skip).await.location.as_deref(),
        Some("/screening")
    );
    assert_eq!(status(&db, id).await, "failed");
    let page = zoe.get(&format!("/screening/{id}")).await;
    assert!(
        page.body.contains("Thank you for the time"),
        "{}",
        page.body
    );
    assert!(page.body.contains("(n = 5)") && page.body.contains("left open"));
    let roles: Vec<String> = sqlx::query_scalar("SELECT roles FROM accounts WHERE id = $1")
        .bind(who.0)
        .fetch_one(&db)
        .await
        .unwrap();
    assert!(roles.is_empty());
    // It is over: nothing of it can be worked on or corrected.
    assert_eq!(zoe.get(&path).await.status, StatusCode::FORBIDDEN);
    let ranks = (1..=4).map(|position| json!({"position": position, "rank": position}));
    let body = json!({"candidates": ranks.collect::<Vec<_>>()});
    let correction = format!("/api/v1/assignments/{first}/submission?replaces=1");
    let headers = [("idempotency-key", "k2")];
    let refused = zoe.send_json("POST", &correction, &headers, &body).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let begun = zoe
        .post(&format!("/screening/{id}/start"), "read=true")
        .await;
    assert_eq!(begun.status, StatusCode::CONFLICT);

    let retake = admin.post(&format!("/screening/{id}/retake"), "").await;
    assert_eq!(
        retake.location.as_deref(),
        Some("/screening?project=study&done=invited")
    );
    let again = admin.post(&format!("/screening/{id}/retake"), "").await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    let newest = zoe.get("/screening").await.location.unwrap();
    let newest: ScreeningId = newest.rsplit('/').next().unwrap().parse().unwrap();
    assert_ne!(newest, id);
    let mut current = Some(start(&zoe, newest).await);
    let mut n = 0;
    while let Some(task) = current {
        n += 1;
        submit(&db, &zoe, task, &[1, 2, 3, 4], flags(true, false)).await;
        current = next_or_done(&zoe, &db, newest).await;
    }
    assert_eq!((n, status(&db, newest).await.as_str()), (2, "passed"));
    // The first one stays as it was.
    assert_eq!(status(&db, id).await, "failed");
    // However fast a candidate was: their answers are looked at on the page of their screening.
    let page = admin.get("/attention").await;
    assert!(page.body.contains("No submission bears a sign."));
    assert!(!page.body.contains("too fast</span>"), "{}", page.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn cut_offs_are_settings_and_labelers_are_not_screened(db: PgPool) {
    let app = TestApp::new(db.clone());
    let (_, sources) = ready(&db, &app).await;
    let admin = app.admin().await;
    for wrong in ["least_flags=101", "graders=0", "least_demonstrations=8"] {
        let mut fields = vec![
            "project=study",
            "least_flags=75",
            "least_ranks=50",
            "least_demonstrations=6",
            "graders=1",
        ];
        fields.retain(|field| field.split('=').next() != wrong.split('=').next());
        fields.push(wrong);
        let refused = admin.post("/screening/rules", &fields.join("&")).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    let form = "project=study&least_flags=50&least_ranks=50&least_demonstrations=5.5&graders=2";
    let saved = admin.post("/screening/rules", form).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.body);
    let (zoe, id) = invite(&app, &admin, "zoe").await;
    let page = zoe.get(&format!("/screening/{id}")).await;
    assert!(
        page.body.contains("at least 50 % of cases"),
        "{}",
        page.body
    );
    let mut current = Some(start(&zoe, id).await);
    while let Some(task) = current {
        // Half of everything.
        submit(&db, &zoe, task, &[1, 1, 1, 1], flags(true, true)).await;
        current = next_or_done(&zoe, &db, id).await;
    }
    assert_eq!(status(&db, id).await, "passed");
    let form = "project=study&email=zoe%40example.org&name=zoe";
    let labeler = admin.post("/screening/candidates", form).await;
    assert_eq!(labeler.status, StatusCode::CONFLICT, "a labeler already");

    // An invitation can be taken back until it is begun; with nothing to ask nobody begins.
    let (yan, id) = invite(&app, &admin, "yan").await;
    for source in sources {
        let removed = admin
            .post(&format!("/screening/tasks/{source}/remove"), "")
            .await;
        assert_eq!(removed.status, StatusCode::SEE_OTHER);
    }
    let begun = yan
        .post(&format!("/screening/{id}/start"), "read=true")
        .await;
    assert_eq!(begun.status, StatusCode::CONFLICT);
    let taken = admin.post(&format!("/screening/{id}/withdraw"), "").await;
    assert_eq!(taken.status, StatusCode::SEE_OTHER);
    assert_eq!(yan.get("/screening").await.status, StatusCode::FORBIDDEN);
    assert_eq!(yan.get("/guidelines").await.status, StatusCode::FORBIDDEN);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_lease_that_ran_out_is_renewed_and_a_program_holds_one_at_a_time(db: PgPool) {
    let app = TestApp::new(db.clone());
    let (project, _) = ready(&db, &app).await;
    let admin = app.admin().await;
    let (zoe, id) = invite(&app, &admin, "zoe").await;
    let lease = format!("/api/v1/projects/{project}/assignments");
    let early = zoe.send_json("POST", &lease, &[], &json!({})).await;
    assert_eq!(early.status, StatusCode::FORBIDDEN, "not begun");
    let first = start(&zoe, id).await;
    for _ in 0..2 {
        let leased = zoe.send_json("POST", &lease, &[], &json!({})).await;
        assert_eq!(leased.status, StatusCode::CREATED, "{}", leased.body);
        assert_eq!(leased.json()["id"], first.to_string());
    }
    let held = zoe.get("/api/v1/assignments").await;
    assert_eq!(held.json().as_array().unwrap().len(), 1);
    sqlx::query("UPDATE assignments SET lease_until = now() - interval '1 second'")
        .execute(&db)
        .await
        .unwrap();
    assert_eq!(next(&zoe, id).await, Some(first));
    submit(&db, &zoe, first, &[1, 2, 3, 4], json!({})).await;
    let leased = zoe.send_json("POST", &lease, &[], &json!({})).await;
    let second = assignment_of(leased.json()["id"].as_str().unwrap());
    assert_ne!(second, first);
    submit(&db, &zoe, second, &[1, 2, 3, 4], json!({})).await;
    let projects = zoe.get("/api/v1/projects").await;
    assert_eq!(projects.json().as_array().unwrap().len(), 1);
}

/// Every address of the site map with its methods.
fn addresses() -> Vec<(String, bool, bool)> {
    let source = include_str!("../src/router.rs");
    let routes = source.split(".route(").skip(1).map(|rest| {
        let path = rest.split('"').nth(1).unwrap().to_owned();
        let end = rest.find(".route(").unwrap_or(rest.len());
        let own = &rest[..end];
        (path, own.contains("get("), own.contains("post("))
    });
    routes.collect()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_candidate_sees_their_screening_and_nothing_else(db: PgPool) {
    let app = TestApp::new(db.clone());
    let (project, sources) = ready(&db, &app).await;
    let admin = app.admin().await;
    let ada = app.labeler("ada").await;
    let others = ada.open_task().await;
    let (zoe, id) = invite(&app, &admin, "zoe").await;
    let (yan, other) = invite(&app, &admin, "yan").await;
    let own = start(&zoe, id).await;
    let of_yan = start(&yan, other).await;

    let all = addresses();
    assert!(all.len() > 60, "the site map was read");
    let open = [
        "/",
        "/language",
        "/theme",
        "/work",
        "/sign-in",
        "/sign-in/{token}",
        "/sign-out",
        "/guidelines",
        "/screening",
        "/api/v1/openapi.json",
        "/api/v1/projects",
        "/api/v1/assignments",
        "/static/{version}/{*path}",
        "/csp-reports",
        "/healthz",
        "/readyz",
        "/metrics",
    ];
    let mut n_refused = 0;
    for (path, has_get, has_post) in all {
        if open.contains(&path.as_str())
            || path.starts_with("/account") && !path.starts_with("/accounts")
        {
            continue;
        }
        let unknown = uuid::Uuid::now_v7().to_string();
        let address = path
            .replace("{id}", &unknown)
            .replace("{account_id}", &unknown)
            .replace("{subject}", "guidelines")
            .replace("{name}", "metrics.jsonl");
        // What is a candidate's own, if it were theirs, does not exist.
        let expected = match path.starts_with("/screening/{id}") {
            true => vec![StatusCode::NOT_FOUND, StatusCode::FORBIDDEN],
            false => vec![StatusCode::FORBIDDEN],
        };
        if has_get {
            let answer = zoe.get(&address).await;
            assert!(
                expected.contains(&answer.status),
                "GET {path}: {}",
                answer.status
            );
            n_refused += 1;
        }
        // Files come in a form of their own, which is read first.
        if has_post && path != "/prompts/import" {
            let answer = match path.starts_with("/api/") {
                true => zoe.send_json("POST", &address, &[], &json!({})).await,
                false => zoe.post(&address, "").await,
            };
            assert!(
                expected.contains(&answer.status),
                "POST {path}: {}",
                answer.status
            );
            n_refused += 1;
        }
    }
    assert!(n_refused > 50, "{n_refused}");

    // Neither a labeler's assignment, nor another candidate's, nor the screening of another.
    let of_labeler = others.rsplit('/').next().unwrap();
    for assignment in [of_labeler.to_owned(), of_yan.to_string()] {
        for address in [
            format!("/rank/{assignment}"),
            format!("/api/v1/assignments/{assignment}"),
        ] {
            let refused = zoe.get(&address).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{address}");
        }
        let path = format!("/rank/{assignment}");
        let refused = zoe.post(&path, "action=save").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
    }
    let refused = zoe.get(&format!("/screening/{other}")).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert_eq!(
        zoe.get(&format!("/rank/{own}")).await.status,
        StatusCode::OK
    );
    // A labeler gets no screening task, and a candidate's assignment does not exist for them.
    let refused = ada.get(&format!("/rank/{own}")).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    let mut connection = db.acquire().await.unwrap();
    let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
    let mut leased = Vec::new();
    while let Ok(Some(lease)) =
        store::queue::lease(&mut connection, project, ada.account_id.unwrap(), &mut rng).await
    {
        leased.push(lease.task_id);
        assert!(!sources.contains(&lease.task_id));
    }
    assert_eq!(leased.len(), 3, "of four, one is open already");
    // Another project's tasks are out of reach too.
    drop(connection);
    let elsewhere = format!("/api/v1/projects/{}/assignments", uuid::Uuid::now_v7());
    let refused = zoe.send_json("POST", &elsewhere, &[], &json!({})).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

/// A submission locks its task, then the assignment, then the screening; a window that goes on at that moment waits
/// for the task before it locks anything that the submission still needs.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_window_that_goes_on_and_one_that_submits_do_not_wait_for_each_other(db: PgPool) {
    let app = TestApp::new(db.clone());
    ready(&db, &app).await;
    let admin = app.admin().await;
    let (zoe, id) = invite(&app, &admin, "zoe").await;
    let first = start(&zoe, id).await;
    // The other window would end this lease and begin it anew.
    sqlx::query("UPDATE assignments SET lease_until = now() - interval '1 second'")
        .execute(&db)
        .await
        .unwrap();
    let mut submission = db.begin().await.unwrap();
    sqlx::query(
        "SELECT 1 FROM tasks WHERE id = (SELECT task_id FROM assignments WHERE id = $1) FOR UPDATE",
    )
    .bind(first.0)
    .execute(&mut *submission)
    .await
    .unwrap();
    let go_on = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while sqlx::query_scalar::<_, i64>(waiting)
            .fetch_one(&db)
            .await
            .unwrap()
            == 0
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        for statement in [
            "UPDATE assignments SET draft_revision = draft_revision + 1 WHERE id = $1",
            "UPDATE screenings SET words = words WHERE id IN (
                 SELECT i.screening_id FROM screening_items i JOIN assignments a ON a.task_id = i.task_id
                 WHERE a.id = $1)",
        ] {
            sqlx::query(statement)
                .bind(first.0)
                .execute(&mut *submission)
                .await
                .expect("the submission goes on");
        }
        submission.commit().await.unwrap();
    };
    let (leased, ()) = tokio::join!(next(&zoe, id), go_on);
    assert_eq!(leased, Some(first));
}
