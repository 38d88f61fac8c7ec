//! Snapshots that leave out tasks on which labelers disagree, labelers who are poor, named or withdrawn, and
//! that keep what was left unranked.

use axum::http::StatusCode;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use server::domain::export::{Container, ExportChoice, ExportFormat};
use server::domain::ids::{AccountId, ProjectId, SnapshotId};
use server::domain::snapshot::{Labels, Selection, SnapshotKind};
use server::domain::snapshot_filters::{Filters, LeftOut};
use server::exchange::export::{create_snapshot, write_snapshot};
use server::exchange::export_file;
use server::exchange::import::{FileFormat, import};
use server::exchange::records::ImportKind;
use server::store;
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::support::crowd::{self, Ways};
use crate::support::{TestApp, encode, fake};

fn selection(project_id: ProjectId, filters: Filters) -> Selection {
    Selection {
        project_id,
        kind: SnapshotKind::Rankings,
        name: "labels".to_owned(),
        categories: Vec::new(),
        include_simulated: false,
        reviewed_categories: false,
        include_personal: false,
        labels: Labels::default(),
        filters,
    }
}

async fn take(db: &PgPool, selection: &Selection) -> SnapshotId {
    create_snapshot(db, selection, None).await.unwrap()
}

async fn written(db: &PgPool, id: SnapshotId) -> String {
    let mut bytes = Vec::new();
    let mut db = db.acquire().await.unwrap();
    write_snapshot(&mut db, id, &mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

async fn found(db: &PgPool, id: SnapshotId) -> store::snapshots::Snapshot {
    let mut db = db.acquire().await.unwrap();
    store::snapshots::find(&mut db, id).await.unwrap().unwrap()
}

/// The ids of the prompts of a snapshot, a line each.
fn prompts(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["id"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// Three tasks of three candidates: on the first both agree, on the second they do not, and the third has one
/// label.
async fn disagreement(db: &PgPool) -> (ProjectId, AccountId, AccountId) {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let project = crowd::project(db, 3, &["a", "b", "c", "d"], 2, &mut rng).await;
    let (ada, bob) = (
        crowd::labeler(db, "Ada").await,
        crowd::labeler(db, "Bob").await,
    );
    for _ in 0..3 {
        assert!(crowd::rank(db, project, ada, &mut rng, |_| vec![1, 2, 3, 4]).await);
    }
    for _ in 0..2 {
        let ranks = |prompt: &str| match prompt.contains("Question 1") {
            true => vec![4, 3, 2, 1],
            false => vec![1, 2, 3, 4],
        };
        assert!(crowd::rank(db, project, bob, &mut rng, ranks).await);
    }
    (project, ada, bob)
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn tasks_below_the_least_agreement_are_left_out_and_single_labels_by_choice(db: PgPool) {
    let (project, _, bob) = disagreement(&db).await;
    let all = take(&db, &selection(project, Filters::default())).await;
    assert_eq!(written(&db, all).await.lines().count(), 5);
    let least = Filters {
        least_agreement: Some(0.5),
        ..Filters::default()
    };
    let id = take(&db, &selection(project, least.clone())).await;
    assert_eq!(prompts(&written(&db, id).await), ["p0", "p0", "p2"]);
    let snapshot = found(&db, id).await;
    assert_eq!(snapshot.filters.0, least);
    assert_eq!(snapshot.n_prompts, 2);
    let expected = LeftOut {
        tasks_agreement: 1,
        ..LeftOut::default()
    };
    assert_eq!(snapshot.left_out.0, expected);

    let strict = Filters {
        without_single: true,
        ..least.clone()
    };
    let id = take(&db, &selection(project, strict)).await;
    assert_eq!(prompts(&written(&db, id).await), ["p0", "p0"]);
    assert_eq!(found(&db, id).await.left_out.0.tasks_single, 1);

    // Agreement is that of the labelers who are left.
    let without = Filters {
        without_labelers: vec![bob],
        ..least
    };
    let id = take(&db, &selection(project, without)).await;
    assert_eq!(prompts(&written(&db, id).await), ["p0", "p1", "p2"]);
    let left_out = found(&db, id).await.left_out.0;
    assert_eq!((left_out.labelers_named, left_out.tasks_agreement), (1, 0));

    // A decision settles what labelers did not agree on, in the place of the labels.
    let decided = format!(
        "WITH t AS (SELECT t.id FROM tasks t JOIN prompts p ON p.id = t.prompt_id WHERE p.external_id = 'p1')
         UPDATE assignments a SET is_adjudication = TRUE, place = NULL FROM t
         WHERE a.task_id = t.id AND a.labeler_id = '{}'",
        bob.0
    );
    fake::rewrite(&db, &decided).await;
    let least = Filters {
        least_agreement: Some(0.5),
        without_single: true,
        ..Filters::default()
    };
    let id = take(&db, &selection(project, least)).await;
    let text = written(&db, id).await;
    assert_eq!(prompts(&text), ["p0", "p0", "p1"]);
    assert_eq!(text.matches("\"adjudication\":true").count(), 1);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn labelers_of_poor_quality_or_far_from_gold_are_left_out(db: PgPool) {
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let project = crowd::project(&db, 60, &["a", "b", "c", "d"], 3, &mut rng).await;
    crowd::make_gold(&db, project, 4).await;
    sqlx::query("UPDATE projects SET gold_share = 0.3")
        .execute(&db)
        .await
        .unwrap();
    let good = [
        crowd::labeler(&db, "Ada").await,
        crowd::labeler(&db, "Bob").await,
    ];
    let poor = crowd::labeler(&db, "Cleo").await;
    let careful = Ways {
        error: 0.2,
        ..Ways::default()
    };
    let careless = Ways {
        error: 4.0,
        ..Ways::default()
    };
    for labeler in good {
        while crowd::work(&db, project, labeler, &careful, &mut rng).await {}
    }
    while crowd::work(&db, project, poor, &careless, &mut rng).await {}
    let all = written(
        &db,
        take(&db, &selection(project, Filters::default())).await,
    )
    .await;
    assert!(all.contains(&poor.to_string()));
    let by_gold = Filters {
        least_gold: Some(0.75),
        ..Filters::default()
    };
    let by_quality = Filters {
        least_quality: Some(0.75),
        ..Filters::default()
    };
    for (filters, n_gold, n_quality) in [(by_gold, 1, 0), (by_quality, 0, 1)] {
        let id = take(&db, &selection(project, filters)).await;
        let text = written(&db, id).await;
        assert!(!text.contains(&poor.to_string()));
        for labeler in good {
            assert!(text.contains(&labeler.to_string()));
        }
        let left_out = found(&db, id).await.left_out.0;
        assert_eq!(
            (left_out.labelers_gold, left_out.labelers_quality),
            (n_gold, n_quality)
        );
    }
    // Somebody of whom nothing is known is kept, unless that is chosen otherwise.
    let newcomer = crowd::labeler(&db, "Newcomer").await;
    sqlx::query("UPDATE tasks SET overlap = 4")
        .execute(&db)
        .await
        .unwrap();
    sqlx::query("UPDATE projects SET gold_share = 0")
        .execute(&db)
        .await
        .unwrap();
    assert!(crowd::work(&db, project, newcomer, &careful, &mut rng).await);
    let kept = Filters {
        least_gold: Some(0.75),
        ..Filters::default()
    };
    let text = written(&db, take(&db, &selection(project, kept.clone())).await).await;
    assert!(text.contains(&newcomer.to_string()));
    let unproven = Filters {
        without_unproven: true,
        ..kept
    };
    let text = written(&db, take(&db, &selection(project, unproven)).await).await;
    assert!(!text.contains(&newcomer.to_string()));
}

async fn dataset(db: &PgPool, id: SnapshotId) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dataset.tar");
    let choice = ExportChoice {
        container: Container::Dataset,
        ..ExportChoice::lines(ExportFormat::Plackett)
    };
    let mut db = db.acquire().await.unwrap();
    export_file::build(&mut db, id, &choice, &path, &mut |_| ())
        .await
        .unwrap();
    std::fs::read(path).unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn withdrawn_labels_are_in_no_later_snapshot_and_older_ones_keep_every_byte(db: PgPool) {
    let (project, ada, bob) = disagreement(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let old = take(&db, &selection(project, Filters::default())).await;
    let (lines, archive) = (written(&db, old).await, dataset(&db, old).await);
    assert!(String::from_utf8_lossy(&archive).contains("SHA256SUMS"));

    let path = format!("/projects/{project}/withdrawals");
    let page = admin.get(&path).await.body;
    assert!(page.contains("3 submissions") && page.contains("No labels are withdrawn."));
    let form = format!("account_id={ada}");
    let done = admin.post(&path, &form).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    // Twice is once.
    admin.post(&path, &form).await;
    let stranger = admin
        .post(&path, &format!("account_id={}", AccountId::new()))
        .await;
    assert_eq!(stranger.status, StatusCode::NOT_FOUND);

    let new = take(&db, &selection(project, Filters::default())).await;
    let text = written(&db, new).await;
    assert_eq!(text.lines().count(), 2);
    assert!(!text.contains(&ada.to_string()) && text.contains(&bob.to_string()));
    assert_eq!(found(&db, new).await.left_out.0.labelers_withdrawn, 1);
    assert_eq!(written(&db, old).await, lines);
    assert_eq!(dataset(&db, old).await, archive);
    assert_eq!(
        found(&db, old).await.sha256,
        hex::encode(Sha256::digest(&lines))
    );
    let page = admin.get(&format!("/snapshots/{new}")).await.body;
    assert!(
        page.contains("left out: 1 labeler whose labels are withdrawn"),
        "{page}"
    );
    let card = String::from_utf8_lossy(&dataset(&db, new).await).into_owned();
    assert!(card.contains("| left out | 1 labelers whose labels are withdrawn |"));
    let log: Vec<(String, Option<uuid::Uuid>)> = sqlx::query_as(
        "SELECT action, subject_id FROM audit_events WHERE action LIKE 'labels%' ORDER BY id",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(log, [("labels_withdrawn".to_owned(), Some(ada.0))]);

    // When everybody is withdrawn, there is nothing to freeze, and it says why.
    admin.post(&path, &format!("account_id={bob}")).await;
    let none = create_snapshot(&db, &selection(project, Filters::default()), None).await;
    assert!(none.unwrap_err().to_string().contains("left out"));
    for who in [ada, bob] {
        let ended = admin.post(&format!("{path}/{who}/end"), "").await;
        assert_eq!(ended.status, StatusCode::SEE_OTHER);
    }
    let again = take(&db, &selection(project, Filters::default())).await;
    assert_eq!(written(&db, again).await, lines);
    let history = admin.get(&path).await.body;
    assert_eq!(
        history.matches("data-label=\"Taken in again\">2").count(),
        2,
        "{history}"
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_form_leaves_out_what_it_says_and_names_what_is_wrong(db: PgPool) {
    let (project, ..) = disagreement(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let form = encode(&[
        ("project", "crowd"),
        ("name", "agreed"),
        ("kind", "rankings"),
        ("least_agreement", "50 %"),
        ("ties", "half"),
        ("without_single", "true"),
        ("without_labelers", "\n"),
    ]);
    let made = admin.post("/snapshots", &form).await;
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.body);
    let path = made.location.unwrap();
    let page = admin.get(&path).await.body;
    for said in [
        "tasks with an agreement of at least 50 %",
        "left out: 1 task with too little agreement",
        "left out: 1 task of which no agreement can be told",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let id = path.rsplit('/').next().unwrap();
    let robot = app
        .program("robot", &[server::domain::role::Role::Admin])
        .await;
    let told = robot.get(&format!("/api/v1/snapshots/{id}")).await.json();
    assert_eq!(told["filters"]["least_agreement"], 0.5);
    assert_eq!(told["filters"]["ties"], "half");
    assert_eq!(told["left_out"]["tasks_single"], 1);
    let wrong = encode(&[
        ("project", "crowd"),
        ("name", "wrong"),
        ("kind", "rankings"),
        ("least_agreement", "150"),
        ("least_gold", "some"),
        ("without_labelers", "nobody@example.org"),
    ]);
    let refused = admin.post("/snapshots", &wrong).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    for said in [
        "Least agreement on a task: use a number from 0 to 100",
        "Least agreement with gold: use a number from 0 to 100",
        "nobody@example.org",
        "<details open>",
    ] {
        assert!(refused.body.contains(said), "{said}: {}", refused.body);
    }
    let named = encode(&[
        ("project", "crowd"),
        ("name", "without ada"),
        ("kind", "rankings"),
        ("without_labelers", "ADA@example.org"),
    ]);
    let made = admin.post("/snapshots", &named).await;
    let page = admin.get(&made.location.unwrap()).await.body;
    assert!(page.contains("left out: 1 labeler who was named"), "{page}");
    let _ = project;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_was_left_unranked_is_kept_with_a_null_rank_and_comes_back(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let task = ada.open_task().await;
    let partial = "rank-1=2&rank-2=cannot&rank-3=1&rank-4=cannot&note=&action=submit&idempotency_key=k&confirmed=yes";
    let done = ada.post(&task, partial).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let id = take(&db, &selection(project, Filters::default())).await;
    let text = written(&db, id).await;
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    let completions = line["completions"].as_array().unwrap();
    assert_eq!(completions.len(), 4);
    let unranked = completions.iter().filter(|item| item["rank"].is_null());
    assert_eq!(unranked.count(), 2);
    assert_eq!(line["display_order"].as_array().unwrap().len(), 4);
    let card = String::from_utf8_lossy(&dataset(&db, id).await).into_owned();
    assert!(card.contains("| left unranked | 2 completions |"));

    // A snapshot that was sealed before keeps its lines.
    let older = {
        let mut line = line.clone();
        line["completions"]
            .as_array_mut()
            .unwrap()
            .retain(|item| !item["rank"].is_null());
        format!("{line}\n")
    };
    let sha256 = hex::encode(Sha256::digest(&older));
    let sealed = format!("UPDATE snapshots SET line_format = 3, sha256 = '{sha256}'");
    fake::rewrite(&db, &sealed).await;
    assert_eq!(written(&db, id).await, older);

    // The file, imported elsewhere, says the same.
    let mut transaction = db.begin().await.unwrap();
    let other = store::projects::insert(&mut transaction, "copy", "Copy", 1, 60)
        .await
        .unwrap();
    let copy = store::projects::find(&mut transaction, other)
        .await
        .unwrap()
        .unwrap();
    let mut line = line;
    line.as_object_mut().unwrap().shift_remove("ranking_id");
    let source = std::io::Cursor::new(format!("{line}\n").into_bytes());
    let kind = ImportKind::Rankings;
    let report = import(&mut transaction, &copy, kind, FileFormat::Jsonl, source)
        .await
        .unwrap();
    assert!(report.is_clean(), "{report:?}");
    transaction.commit().await.unwrap();
    let id = take(&db, &selection(other, Filters::default())).await;
    let again: serde_json::Value = serde_json::from_str(&written(&db, id).await).unwrap();
    let ranks = |line: &serde_json::Value| -> Vec<serde_json::Value> {
        let completions = line["completions"].as_array().unwrap().iter();
        completions.map(|item| item["rank"].clone()).collect()
    };
    assert_eq!(ranks(&again), ranks(&line));
}
