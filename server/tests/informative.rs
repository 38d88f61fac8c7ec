//! Which task next: an ensemble of reward models is run over the open tasks, and the queue follows its
//! disagreement, with a random share kept for evaluation.

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use serde_json::{Value, json};
use server::commands::disagreement::measure;
use server::domain::disagreement::disagreement;
use server::domain::ids::TaskId;
use server::store;
use sqlx::PgPool;
use trainer::Device;
use trainer::checkpoint::{CheckpointKind, Lineage, write_with};
use trainer::judge::Judge;
use trainer::model::architecture::SCORE;
use trainer::model::heads::{Beginning, RewardModel};
use trainer::model::weights::Trainable;
use trainer::records::Prompt;

use crate::gold::submit;
use crate::support::program::command;
use crate::support::{TestApp, fake};

/// A reward model with so many members, drawn from a seed.
fn reward_model(folder: &Path, members: usize, seed: u64) -> PathBuf {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/tests/fixtures/tiny");
    let beginning = Beginning {
        trainable: Trainable::Nothing,
        lora: None,
        members,
        seed,
    };
    let model = RewardModel::begin(&base, &Device::Cpu, beginning).unwrap();
    let mut tensors = model.trunk.weights().tensors().clone();
    tensors.insert(SCORE.to_owned(), model.mean_head().unwrap());
    let place = folder.join(format!("reward-{members}-{seed}"));
    let lineage = Lineage::new(CheckpointKind::Reward);
    write_with(&place, &base, &tensors, Some(0.0), &lineage, |folder| {
        let members = model.members();
        members.map_or(Ok(()), |members| members.write(folder))
    })
    .unwrap();
    place
}

type Row = (uuid::Uuid, Option<f32>, String, f64);

async fn rows(db: &PgPool) -> Vec<Row> {
    sqlx::query_as(
        "SELECT id, disagreement, chosen_by, sort_key FROM tasks WHERE purpose = 'label' ORDER BY sort_key, id",
    )
    .fetch_all(db)
    .await
    .unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_ensembles_disagreement_orders_the_queue_and_says_so(db: PgPool) {
    let project = fake::project(&db, 40, 4, 1, 3600).await;
    let before = rows(&db).await;
    // One task is done already, and is measured no more.
    sqlx::query("UPDATE tasks SET closed_at = now() WHERE id = $1")
        .bind(before[7].0)
        .execute(&db)
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let models = [
        reward_model(folder.path(), 3, 1),
        reward_model(folder.path(), 1, 2),
    ];
    let load = || models.iter().map(|model| Judge::load(model).unwrap());
    let mut connection = db.acquire().await.unwrap();
    let own = store::projects::find(&mut connection, project)
        .await
        .unwrap()
        .unwrap();
    let found = measure(&db, &own, load().collect()).await.unwrap();
    assert_eq!((found.n_tasks, found.n_long, found.n_moved), (39, 0, None));
    // The queue of a project that does not ask for it stays as it is.
    let measured = rows(&db).await;
    let keys = |rows: &[Row]| rows.iter().map(|row| (row.0, row.3)).collect::<Vec<_>>();
    assert_eq!(keys(&measured), keys(&before));
    assert!(
        measured
            .iter()
            .all(|row| row.1.is_some() == (row.0 != before[7].0))
    );

    // By hand: four members over the six pairs of the first task.
    let texts: Vec<String> = sqlx::query_scalar(
        "SELECT c.text FROM candidates k JOIN completions c ON c.id = k.completion_id
         WHERE k.task_id = $1 ORDER BY k.slot",
    )
    .bind(before[0].0)
    .fetch_all(&db)
    .await
    .unwrap();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let prompt = Prompt::Text("What is 0 + 1?".to_owned());
    let members: Vec<Vec<f64>> = load()
        .flat_map(|judge| judge.score_by_member(&prompt, &texts).unwrap().unwrap())
        .collect();
    assert_eq!((members.len(), members[0].len()), (4, 4));
    let expected = disagreement(&members).unwrap();
    let stored = f64::from(measured[0].1.unwrap());
    assert!(
        expected > 0.0 && (stored - expected).abs() < 1e-6,
        "{stored} {expected}"
    );

    sqlx::query("UPDATE projects SET next_task = 'informative', evaluation_share = 0.25")
        .execute(&db)
        .await
        .unwrap();
    let found = measure(&db, &own, load().collect()).await.unwrap();
    assert_eq!(found.n_moved, Some(39));
    let placed = rows(&db).await;
    let open: Vec<&Row> = placed.iter().filter(|row| row.0 != before[7].0).collect();
    let chosen: Vec<f32> = open
        .iter()
        .filter(|row| row.2 == "informative")
        .map(|row| row.1.unwrap())
        .collect();
    assert!(chosen.is_sorted_by(|a, b| a >= b), "{chosen:?}");
    let n_drawn = open.iter().filter(|row| row.2 == "evaluation").count();
    assert_eq!(n_drawn + chosen.len(), 39);
    assert!((3..=18).contains(&n_drawn), "a quarter of 39: {n_drawn}");

    // What is made later waits behind; the lease follows the order, and knows why it came.
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let who = ada.account_id.unwrap();
    let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
    let lease = store::queue::lease(&mut connection, project, who, &mut rng)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lease.task_id, TaskId(open[0].0));
    let why: (Option<String>, Option<f32>) =
        sqlx::query_as("SELECT chosen_by, disagreement FROM assignments WHERE id = $1")
            .bind(lease.assignment_id.0)
            .fetch_one(&db)
            .await
            .unwrap();
    assert_eq!(why, (Some(open[0].2.clone()), open[0].1));
    // Measured again, nobody is drawn anew.
    let drawn = |rows: &[Row]| -> Vec<uuid::Uuid> {
        let mut ids: Vec<_> = rows
            .iter()
            .filter(|row| row.2 == "evaluation")
            .map(|row| row.0)
            .collect();
        ids.sort_unstable();
        ids
    };
    store::informative::place(&mut connection, project)
        .await
        .unwrap();
    assert_eq!(drawn(&rows(&db).await), drawn(&placed));
    drop(connection);
    let admin = app.admin().await;
    let page = admin.get(&format!("/tasks/{}", open[0].0)).await;
    assert!(page.body.contains("disagreement 0."), "{}", page.body);
    // An export says so of the label, whatever becomes of the task.
    submit(&db, &ada, lease.assignment_id, &[1, 2, 3, 4], json!({})).await;
    sqlx::query("UPDATE tasks SET disagreement = NULL, chosen_by = 'oldest'")
        .execute(&db)
        .await
        .unwrap();
    let form = "project=study&name=all&kind=rankings";
    let made = admin.post("/snapshots", form).await.location.unwrap();
    let export = admin.get(&format!("{made}/export")).await;
    let line: Value = serde_json::from_str(export.body.lines().next().unwrap()).unwrap();
    assert_eq!(line["chosen_by"], open[0].2.as_str());
    let told = line["disagreement"].as_f64().unwrap();
    assert!(
        (told - f64::from(open[0].1.unwrap())).abs() < 1e-6,
        "{line}"
    );

    // An admin who asks for another order, and for this one again, gets it with what was measured.
    let mut connection = db.acquire().await.unwrap();
    for (id, disagreement, _, _) in &placed {
        sqlx::query("UPDATE tasks SET disagreement = $2 WHERE id = $1")
            .bind(id)
            .bind(disagreement)
            .execute(&mut *connection)
            .await
            .unwrap();
    }
    for order in ["random", "informative"] {
        sqlx::query("UPDATE projects SET next_task = $1")
            .bind(order)
            .execute(&mut *connection)
            .await
            .unwrap();
        store::queue_order::place_all(&mut connection, project)
            .await
            .unwrap();
    }
    let ids = |rows: &[Row]| -> Vec<uuid::Uuid> {
        let open = rows.iter().filter(|row| row.0 != before[7].0);
        open.map(|row| row.0).collect()
    };
    assert_eq!(ids(&rows(&db).await), ids(&placed));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_command_says_what_it_measured_and_refuses_a_model_alone(db: PgPool) {
    fake::project(&db, 3, 4, 1, 3600).await;
    // A task that no tiny model can read whole.
    sqlx::query("INSERT INTO completions (id, prompt_id, text, model) SELECT gen_random_uuid(), id, repeat('word ', 500), 'm' FROM prompts WHERE external_id = 'p1'")
        .execute(&db)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO candidates (task_id, slot, completion_id)
         SELECT t.id, 4, c.id FROM completions c JOIN tasks t ON t.prompt_id = c.prompt_id WHERE c.model = 'm'",
    )
    .execute(&db)
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (one, three) = (
        reward_model(folder.path(), 1, 1),
        reward_model(folder.path(), 3, 2),
    );
    let run = |models: &[&PathBuf]| {
        let mut command = command(&db, folder.path());
        command
            .args(["score", "--project", "study", "--ensemble"])
            .args(models);
        command.output().unwrap()
    };
    let alone = run(&[&one]);
    assert!(!alone.status.success());
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(said.contains("cannot disagree"), "{said}");
    let done = run(&[&one, &three]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(
        said.contains("2 tasks measured by 4 reward models"),
        "{said}"
    );
    assert!(said.contains("one of the models: 1."), "{said}");
    assert!(said.contains("queue stays as it is"), "{said}");
    let mut command = command(&db, folder.path());
    let wrong = command
        .args(["score", "--project", "study"])
        .output()
        .unwrap();
    assert!(!wrong.status.success());
}
