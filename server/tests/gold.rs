//! Gold tasks and repeats: mixed in so that nobody can tell, never in a dataset, scored by what is known.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};
use server::domain::ids::{AccountId, AssignmentId, ProjectId, TaskId};
use server::domain::role::Role;
use server::domain::snapshot::{Labels, Selection, SnapshotKind};
use server::exchange::export::create_snapshot;
use server::store;
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{Client, TestApp, fake};

/// The oldest tasks for the dataset.
pub(crate) async fn tasks(db: &PgPool) -> Vec<TaskId> {
    sqlx::query_scalar("SELECT id FROM tasks WHERE purpose = 'label' ORDER BY sort_key, id")
        .fetch_all(db)
        .await
        .unwrap()
        .into_iter()
        .map(TaskId)
        .collect()
}

pub(crate) async fn set_shares(db: &PgPool, gold: f32, repeats: f32) {
    sqlx::query("UPDATE projects SET gold_share = $1, repeat_share = $2, repeat_after_days = 7")
        .bind(gold)
        .bind(repeats)
        .execute(db)
        .await
        .unwrap();
}

/// Writes a right answer down by the page of a task, and returns the copy.
pub(crate) async fn make_gold(admin: &Client<'_>, task: TaskId, fields: &str) -> TaskId {
    let path = format!("/tasks/{task}/gold");
    let form = format!("purpose=gold&{fields}");
    let answer = admin.post(&path, &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let made = answer.location.unwrap();
    made.strip_prefix("/tasks/").unwrap().parse().unwrap()
}

/// Leases with one draw after the other until the task has the purpose.
pub(crate) async fn lease(
    db: &PgPool,
    project: ProjectId,
    labeler: AccountId,
    purpose: &str,
) -> Option<(AssignmentId, TaskId)> {
    let mut connection = db.acquire().await.unwrap();
    for seed in 0..40 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let lease = store::queue::lease(&mut connection, project, labeler, &mut rng)
            .await
            .unwrap()?;
        let found: String = sqlx::query_scalar("SELECT purpose FROM tasks WHERE id = $1")
            .bind(lease.task_id.0)
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        if found == purpose {
            return Some((lease.assignment_id, lease.task_id));
        }
        let id = lease.assignment_id.0;
        sqlx::query("DELETE FROM assignments WHERE id = $1")
            .bind(id)
            .execute(&mut *connection)
            .await
            .unwrap();
        sqlx::query("UPDATE tasks SET n_held = n_held - 1 WHERE id = $1")
            .bind(lease.task_id.0)
            .execute(&mut *connection)
            .await
            .unwrap();
    }
    None
}

/// Submits ranks by slot, whatever order was shown.
pub(crate) async fn submit(
    db: &PgPool,
    by: &Client<'_>,
    id: AssignmentId,
    ranks: &[i16],
    more: Value,
) {
    let order: Vec<i16> = sqlx::query_scalar("SELECT display_order FROM assignments WHERE id = $1")
        .bind(id.0)
        .fetch_one(db)
        .await
        .unwrap();
    let candidates = order.iter().enumerate().map(|(index, slot)| {
        let mut item = json!({"position": index + 1, "rank": ranks[*slot as usize]});
        if let Some(flags) = more.get(slot.to_string()) {
            item["flags"] = flags.clone();
        }
        item
    });
    let body = json!({"candidates": candidates.collect::<Vec<_>>()});
    let path = format!("/api/v1/assignments/{id}/submission");
    let answer = by
        .send_json("POST", &path, &[("idempotency-key", "k")], &body)
        .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
}

/// A page without what differs between any two tasks: ids and numbers.
fn without_ids(page: &str) -> String {
    let mut out = String::new();
    let mut rest = page;
    while let Some(at) = rest.find(|char: char| char.is_ascii_hexdigit()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.len() >= 36 && rest.is_char_boundary(36) && Uuid::parse_str(&rest[..36]).is_ok() {
            out.push_str("ID");
            rest = &rest[36..];
            continue;
        }
        let first = rest.chars().next().unwrap();
        out.push(if first.is_ascii_digit() { '#' } else { first });
        rest = &rest[1..];
    }
    out.push_str(rest);
    while out.contains("##") {
        out = out.replace("##", "#");
    }
    out
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_labeler_cannot_tell_a_gold_task_from_another(db: PgPool) {
    let project = fake::project(&db, 12, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let source = tasks(&db).await[11];
    make_gold(&admin, source, "rank-1=1&rank-2=2&flag-1-hallucination=yes").await;
    set_shares(&db, 0.5, 0.0).await;
    let ada = app.program("ada", &[Role::Labeler]).await;
    let who = ada.account_id.unwrap();
    let (gold, _) = lease(&db, project, who, "gold").await.unwrap();
    let (label, _) = lease(&db, project, who, "label").await.unwrap();
    sqlx::query("UPDATE assignments SET display_order = '{0,1,2,3}'")
        .execute(&db)
        .await
        .unwrap();

    let both = [gold, label].map(|id| format!("/api/v1/assignments/{id}"));
    let [of_gold, of_label] = [ada.get(&both[0]).await, ada.get(&both[1]).await];
    assert_eq!(of_gold.status, StatusCode::OK);
    assert_eq!(without_ids(&of_gold.body), without_ids(&of_label.body));
    let headers = |answer: &crate::support::Answer| -> BTreeSet<String> {
        let names = answer.headers.keys().map(ToString::to_string);
        names.collect()
    };
    assert_eq!(headers(&of_gold), headers(&of_label));

    // By page too, in both languages, and what the page says is waiting goes down with either.
    let by_cookie = app.sign_in(who).await;
    let [of_gold, of_label] = [
        by_cookie.get(&format!("/rank/{gold}")).await,
        by_cookie.get(&format!("/rank/{label}")).await,
    ];
    assert_eq!(of_gold.status, StatusCode::OK, "{}", of_gold.body);
    assert_eq!(without_ids(&of_gold.body), without_ids(&of_label.body));
    for word in ["gold", "purpose", "screening", &source.to_string()] {
        assert!(!of_gold.body.contains(word), "{word} in {}", of_gold.body);
    }

    // Both answers have one shape, and an id tells no more than when it was leased.
    let ids: Vec<i16> = [gold, label]
        .iter()
        .map(|id| id.0.get_version_num() as i16)
        .collect();
    assert_eq!(ids, [7, 7]);
    let mut answers = Vec::new();
    for id in [gold, label] {
        let ranks = (1..=4).map(|rank| json!({"position": rank, "rank": rank}));
        let body = json!({"candidates": ranks.collect::<Vec<_>>()});
        let path = format!("/api/v1/assignments/{id}/submission");
        let headers = [("idempotency-key", "k")];
        let answer = ada.send_json("POST", &path, &headers, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        answers.push(without_ids(&answer.body));
    }
    assert_eq!(answers[0], answers[1]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_waits_goes_down_by_one_with_a_gold_task_too(db: PgPool) {
    let project = fake::project(&db, 10, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    for task in &tasks(&db).await[8..] {
        make_gold(&admin, *task, "rank-1=1&rank-2=2").await;
    }
    set_shares(&db, 0.5, 0.0).await;
    let ada = app.program("ada", &[Role::Labeler]).await;
    let who = ada.account_id.unwrap();
    let mut seen = Vec::new();
    for purpose in ["label", "gold", "label", "gold", "label"] {
        let (id, _) = lease(&db, project, who, purpose).await.unwrap();
        let mut connection = db.acquire().await.unwrap();
        let progress = store::tasks::progress(&mut connection, who).await.unwrap();
        seen.push(progress.waiting);
        drop(connection);
        submit(&db, &ada, id, &[1, 2, 3, 4], json!({})).await;
    }
    assert_eq!(seen, [9, 8, 7, 6, 5]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn gold_is_a_copy_seen_once_by_each_counted_retired_and_never_in_a_snapshot(db: PgPool) {
    let project = fake::project(&db, 6, 4, 2, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let all = tasks(&db).await;
    let ada = app.program("ada", &[Role::Labeler]).await;
    let bob = app.program("bob", &[Role::Labeler]).await;
    let (a, b) = (ada.account_id.unwrap(), bob.account_id.unwrap());
    // Ada's label of the first task is what the right answer begins with.
    let (first, source) = lease(&db, project, a, "label").await.unwrap();
    assert_eq!(source, all[0]);
    let flags = json!({"2": {"hallucination": true}});
    submit(&db, &ada, first, &[2, 1, 3, 4], flags).await;
    let page = admin.get(&format!("/tasks/{source}?from={first}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(!page.body.contains("secret-model"));
    let chosen = |name: &str, value: &str| {
        let html = scraper::Html::parse_document(&page.body);
        let css = format!("select[name='{name}'] option[value='{value}'][selected]");
        html.select(&scraper::Selector::parse(&css).unwrap())
            .count()
            == 1
    };
    assert!(
        chosen("rank-1", "2") && chosen("rank-2", "1") && chosen("flag-3-hallucination", "yes")
    );
    assert!(!page.body.contains(">ada<"), "labelers are numbers");
    let named = admin.get(&format!("/tasks/{source}?names=true")).await;
    assert!(named.body.contains(">ada<"), "until an admin asks");

    let gold = make_gold(&admin, source, "rank-1=2&rank-2=1&flag-3-hallucination=yes").await;
    let again = admin
        .post(
            &format!("/tasks/{source}/gold"),
            "purpose=gold&rank-1=1&rank-2=2",
        )
        .await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    let copied: Vec<(i16, Uuid, Uuid)> = sqlx::query_as(
        "SELECT a.slot, a.completion_id, b.completion_id FROM candidates a
         JOIN candidates b USING (slot) WHERE a.task_id = $1 AND b.task_id = $2",
    )
    .bind(source.0)
    .bind(gold.0)
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(copied.len(), 4);
    assert!(copied.iter().all(|(_, own, other)| own == other));
    let untouched: (String, i64) = sqlx::query_as(
        "SELECT t.purpose, count(a.id) FROM tasks t JOIN assignments a ON a.task_id = t.id
         WHERE t.id = $1 GROUP BY t.purpose",
    )
    .bind(source.0)
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(untouched, ("label".to_owned(), 1));

    set_shares(&db, 0.5, 0.0).await;
    // Ada knows the prompt. Bob gets it once, and the task itself only when nothing else is left.
    assert_eq!(lease(&db, project, a, "gold").await, None);
    let (seen, _) = lease(&db, project, b, "gold").await.unwrap();
    submit(&db, &bob, seen, &[1, 2, 3, 4], json!({})).await;
    assert_eq!(lease(&db, project, b, "gold").await, None);
    let mut order = Vec::new();
    while let Some((id, task)) = lease(&db, project, b, "label").await {
        submit(&db, &bob, id, &[1, 2, 3, 4], json!({})).await;
        order.push(task);
    }
    let expected: Vec<TaskId> = all[1..].iter().chain(&all[..1]).copied().collect();
    assert_eq!(order, expected);

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
    let snapshot = create_snapshot(&db, &selection, None).await.unwrap();
    let of_gold: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM snapshot_items i JOIN rankings r ON r.id = i.item_id
         JOIN assignments a ON a.id = r.assignment_id WHERE i.snapshot_id = $1 AND a.task_id = $2",
    )
    .bind(snapshot.0)
    .bind(gold.0)
    .fetch_one(&db)
    .await
    .unwrap();
    let mut connection = db.acquire().await.unwrap();
    let found = store::snapshots::find(&mut connection, snapshot)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((of_gold, found.n_items), (0, 7));

    let listed = store::gold::list(&mut connection, project).await.unwrap();
    assert_eq!((listed[0].n_exposed, listed[0].is_retired), (1, false));
    drop(connection);
    let retired = admin.post(&format!("/gold/{gold}/retire"), "").await;
    assert_eq!(retired.location.as_deref(), Some("/gold?project=study"));
    let cleo = app.program("cleo", &[Role::Labeler]).await;
    assert_eq!(
        lease(&db, project, cleo.account_id.unwrap(), "gold").await,
        None
    );
    let page = admin.get("/gold").await;
    assert!(page.body.contains("retired"), "{}", page.body);
    // Only then can another be made of it.
    make_gold(&admin, source, "rank-1=2&rank-2=1").await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn scores_count_what_is_known_by_the_newest_answer_and_the_first_version(db: PgPool) {
    let project = fake::project(&db, 3, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let gold = make_gold(&admin, tasks(&db).await[2], "rank-1=1&rank-2=2").await;
    set_shares(&db, 0.5, 0.0).await;
    let ada = app.program("ada", &[Role::Labeler]).await;
    let who = ada.account_id.unwrap();
    let (id, _) = lease(&db, project, who, "gold").await.unwrap();
    let flags = json!({"0": {"hallucination": false}});
    submit(&db, &ada, id, &[2, 1, 1, 3], flags).await;
    let score = async || {
        let mut connection = db.acquire().await.unwrap();
        let scores = store::gold::scores(&mut connection, project).await.unwrap();
        assert_eq!(scores.len(), 1);
        scores[0].score
    };
    let first = score().await;
    assert_eq!(
        (first.ranks.agreed, first.ranks.n, first.flags.n),
        (0.0, 1, 0)
    );

    // What is known becomes more: a version beside the first.
    let more = "rank-1=1&rank-2=2&rank-4=3&flag-1-hallucination=yes&flag-2-hallucination=no";
    let path = format!("/tasks/{gold}/gold");
    let answer = admin.post(&path, more).await;
    assert_eq!(answer.location, Some(format!("/tasks/{gold}")));
    let second = score().await;
    assert_eq!((second.ranks.agreed, second.ranks.n), (2.0, 3));
    assert_eq!(
        (second.flags.agreed, second.flags.n, second.flags.n_open),
        (0.0, 1, 1)
    );
    let versions: i64 = sqlx::query_scalar("SELECT count(*) FROM gold_answers")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(versions, 2);

    // A correction changes no score: somebody may have told them.
    let ranks = (1..=4).map(|position| json!({"position": position, "rank": position}));
    let body = json!({"candidates": ranks.collect::<Vec<_>>()});
    let path = format!("/api/v1/assignments/{id}/submission?replaces=1");
    let headers = [("idempotency-key", "k2")];
    let corrected = ada.send_json("POST", &path, &headers, &body).await;
    assert_eq!(corrected.status, StatusCode::CREATED, "{}", corrected.body);
    assert_eq!(score().await, second);

    let page = admin.get("/gold").await;
    assert!(page.body.contains("67 % (n = 3)"), "{}", page.body);
    let nothing = admin.post(&format!("/tasks/{gold}/gold"), "rank-1=3").await;
    assert_eq!(nothing.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        nothing.body.contains("two different ranks"),
        "{}",
        nothing.body
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn only_admins_see_tasks_gold_and_signs(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let task = tasks(&db).await[0];
    let (ada, olga) = (app.labeler("ada").await, app.operator().await);
    for path in [
        format!("/tasks/{task}"),
        "/gold".to_owned(),
        "/attention".to_owned(),
    ] {
        for other in [&ada, &olga] {
            assert_eq!(
                other.get(&path).await.status,
                StatusCode::FORBIDDEN,
                "{path}"
            );
        }
    }
    let fields = "purpose=gold&rank-1=1&rank-2=2";
    for path in [
        format!("/tasks/{task}/gold"),
        format!("/gold/{task}/retire"),
    ] {
        assert_eq!(
            ada.post(&path, fields).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    let admin = app.admin().await;
    // A task for the dataset is no gold task, and cannot be retired as one.
    let refused = admin.post(&format!("/gold/{task}/retire"), "").await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
}

/// Makes everything that was submitted that many days older.
async fn pass(db: &PgPool, days: i32) {
    sqlx::query("UPDATE assignments SET ended_at = ended_at - make_interval(days => $1), leased_at = leased_at - make_interval(days => $1)")
        .bind(days)
        .execute(db)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_task_comes_back_after_days_to_its_labeler_alone_once_and_in_a_new_order(db: PgPool) {
    let project = fake::project(&db, 2, 6, 2, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.program("ada", &[Role::Labeler]).await;
    let bob = app.program("bob", &[Role::Labeler]).await;
    let (a, b) = (ada.account_id.unwrap(), bob.account_id.unwrap());
    let (id, task) = lease(&db, project, a, "label").await.unwrap();
    submit(&db, &ada, id, &[1, 2, 3, 4, 5, 6], json!({})).await;
    set_shares(&db, 0.0, 0.5).await;
    pass(&db, 6).await;
    assert_eq!(lease(&db, project, a, "repeat").await, None, "too early");
    pass(&db, 1).await;
    assert_eq!(
        lease(&db, project, b, "repeat").await,
        None,
        "another labeler's"
    );
    let (again, repeat) = lease(&db, project, a, "repeat").await.unwrap();
    assert_ne!(repeat, task);
    let orders: Vec<Vec<i16>> =
        sqlx::query_scalar("SELECT display_order FROM assignments WHERE id = ANY($1) ORDER BY id")
            .bind([id.0, again.0])
            .fetch_all(&db)
            .await
            .unwrap();
    assert_ne!(orders[0], orders[1], "an order of its own");
    // Its lease runs out: the same one waits for them, and no second is made.
    sqlx::query("UPDATE assignments SET lease_until = now() - interval '1 second' WHERE id = $1")
        .bind(again.0)
        .execute(&db)
        .await
        .unwrap();
    let (renewed, same) = lease(&db, project, a, "repeat").await.unwrap();
    assert_eq!((renewed, same), (again, repeat));
    submit(&db, &ada, again, &[1, 2, 3, 4, 6, 6], json!({})).await;
    pass(&db, 30).await;
    assert_eq!(
        lease(&db, project, a, "repeat").await,
        None,
        "never a third time"
    );

    let mut connection = db.acquire().await.unwrap();
    let repeated = store::repeats::list(&mut connection, project)
        .await
        .unwrap();
    assert_eq!(repeated.len(), 1);
    assert_eq!((repeated[0].labeler_id, repeated[0].task_id), (a, task));
    let ranks = |of: [i16; 6]| of.map(Some).to_vec();
    assert_eq!(repeated[0].first, ranks([1, 2, 3, 4, 5, 6]));
    assert_eq!(repeated[0].again, ranks([1, 2, 3, 4, 5, 5]));
    drop(connection);
    let admin = app.admin().await;
    let page = admin.get("/attention").await;
    assert!(page.body.contains("97 % (n = 15)"), "{}", page.body);

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
    let snapshot = create_snapshot(&db, &selection, None).await.unwrap();
    let items: Vec<Uuid> = sqlx::query_scalar(
        "SELECT a.task_id FROM snapshot_items i JOIN rankings r ON r.id = i.item_id
         JOIN assignments a ON a.id = r.assignment_id WHERE i.snapshot_id = $1",
    )
    .bind(snapshot.0)
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(items, [task.0]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn signs_are_shown_and_refuse_nothing(db: PgPool) {
    let project = fake::project(&db, 4, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.program("ada", &[Role::Labeler]).await;
    let who = ada.account_id.unwrap();
    // Untouched and fast; looked at; untouched and slow; fast by its own count.
    let mut ids = Vec::new();
    for (ranks, active_ms, seconds) in [
        ([1, 2, 3, 4], 900, 5),
        ([2, 1, 3, 3], 30_000, 60),
        ([1, 2, 3, 4], 30_000, 60),
        ([4, 3, 2, 1], 2_000, 600),
    ] {
        let (id, task) = lease(&db, project, who, "label").await.unwrap();
        let opened = "UPDATE assignments SET opened_at = now() - make_interval(secs => $2), display_order = '{0,1,2,3}' WHERE id = $1";
        sqlx::query(opened)
            .bind(id.0)
            .bind(f64::from(seconds))
            .execute(&db)
            .await
            .unwrap();
        let items = ranks
            .iter()
            .enumerate()
            .map(|(index, rank)| json!({"position": index + 1, "rank": rank}));
        let time = json!({"active_ms": active_ms, "idle_ms": 0});
        let body = json!({"candidates": items.collect::<Vec<_>>(), "time": time});
        let path = format!("/api/v1/assignments/{id}/submission");
        let headers = [("idempotency-key", "k")];
        let answer = ada.send_json("POST", &path, &headers, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        ids.push((id, task));
    }
    let list = async |sign: &str| {
        let mut connection = db.acquire().await.unwrap();
        let filter = store::attention::Filter {
            sign: sign.to_owned(),
            ..Default::default()
        };
        let found = store::attention::list(&mut connection, project, &filter, 10).await;
        let ids = found.unwrap().into_iter().map(|sign| sign.assignment_id);
        ids.collect::<Vec<_>>()
    };
    assert_eq!(list("untouched").await, [ids[2].0, ids[0].0]);
    assert_eq!(list("too-fast").await, [ids[3].0, ids[0].0]);
    assert_eq!(list("").await, [ids[3].0, ids[2].0, ids[0].0]);
    let mut connection = db.acquire().await.unwrap();
    let labelers = store::attention::list_labelers(&mut connection, project)
        .await
        .unwrap();
    let one = &labelers[0];
    assert_eq!(
        (one.n, one.n_rankings, one.n_untouched, one.n_too_fast),
        (4, 4, 2, 2)
    );
    assert!(
        (one.n_by_chance - 4.0 / 24.0).abs() < 1e-9,
        "{}",
        one.n_by_chance
    );
    drop(connection);
    let admin = app.admin().await;
    let page = admin.get("/attention?sign=too-fast").await;
    assert!(page.body.contains("2 of 4 (50.0 %)"), "{}", page.body);
    let page = admin.get(&format!("/tasks/{}", ids[0].1)).await;
    assert!(page.body.contains("order as shown") && page.body.contains("too fast"));
    let wrong = admin.get("/attention?sign=lazy").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
}
