//! `plackett score --project`: how far reward models disagree over the candidates of a project's open tasks,
//! and the queue that follows from it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use sqlx::PgPool;
use trainer::judge::Judge;
use trainer::records::Prompt;

use crate::commands::database::Database;
use crate::config::DataConfig;
use crate::domain::disagreement::disagreement;
use crate::domain::ids::TaskId;
use crate::domain::task::NextTask;
use crate::store;
use crate::store::informative::TaskTexts;
use crate::store::projects::Project;

/// Tasks that are read, scored and written at a time.
const BATCH: i64 = 64;

/// What was measured.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Tasks with a disagreement now.
    pub n_tasks: usize,
    /// Tasks that do not fit the context of one of the models, and keep what they had.
    pub n_long: usize,
    /// The mean disagreement.
    pub mean: f64,
    /// Tasks that moved to another place by it; none where the project does not choose by it.
    pub n_moved: Option<u64>,
}

/// Measures a project's open tasks with an ensemble and says what came of it.
///
/// # Errors
/// When the project is unknown, the models are fewer than two together, or the database fails.
pub async fn run(data: &DataConfig, slug: &str, models: Vec<PathBuf>) -> anyhow::Result<()> {
    let folders = models.into_iter().map(|model| data.find_model(model));
    let folders: Vec<PathBuf> = folders.collect();
    let database = Database::open(data, 2).await?;
    let done = carry_out(&database.pool, slug, folders).await;
    database.close().await;
    let (found, n_members) = done?;
    println!(
        "{} tasks measured by {n_members} reward models; mean disagreement {:.4}, of 0.25 at most.",
        found.n_tasks, found.mean
    );
    if found.n_long > 0 {
        println!(
            "Left as they are, since they do not fit the context of one of the models: {}.",
            found.n_long
        );
    }
    match found.n_moved {
        Some(n) => println!("The queue follows: {n} tasks moved."),
        None => {
            println!("The queue stays as it is: the project's next task is not \"informative\".");
        }
    }
    Ok(())
}

async fn carry_out(
    pool: &PgPool,
    slug: &str,
    folders: Vec<PathBuf>,
) -> anyhow::Result<(Measured, usize)> {
    let mut db = pool.acquire().await?;
    let project = store::projects::find_by_slug(&mut db, slug)
        .await?
        .with_context(|| format!("no project has the short name {slug}"))?;
    drop(db);
    let judges = tokio::task::spawn_blocking(move || -> trainer::Result<Vec<Judge>> {
        folders.iter().map(|folder| Judge::load(folder)).collect()
    });
    let judges = judges.await??;
    let n_members = judges.iter().map(Judge::n_members).sum();
    Ok((measure(pool, &project, judges).await?, n_members))
}

/// Measures a project's open tasks; where its next task is the most informative one, the queue follows.
///
/// # Errors
/// When the judges have fewer than two members together, a text cannot be read, or the database fails.
pub async fn measure(
    pool: &PgPool,
    project: &Project,
    judges: Vec<Judge>,
) -> anyhow::Result<Measured> {
    let n_members: usize = judges.iter().map(Judge::n_members).sum();
    anyhow::ensure!(
        n_members > 1,
        "one reward model cannot disagree: name another --ensemble, or one that was trained with members"
    );
    let judges = Arc::new(judges);
    let mut db = pool.acquire().await?;
    let (mut found, mut sum, mut after) = (Measured::default(), 0.0, None);
    loop {
        let tasks = store::informative::list_open(&mut db, project.id, after, BATCH).await?;
        let Some(last) = tasks.last() else {
            break;
        };
        after = Some(last.id);
        let n = tasks.len();
        let own = judges.clone();
        let measured = tokio::task::spawn_blocking(move || measure_all(&own, &tasks)).await??;
        found.n_long += n - measured.len();
        found.n_tasks += measured.len();
        sum += measured.iter().map(|(_, value)| value).sum::<f64>();
        store::informative::set_disagreement(&mut db, &measured).await?;
    }
    found.mean = sum / found.n_tasks.max(1) as f64;
    let settings = store::projects::find_settings(&mut db, project.id).await?;
    let next = settings.map(|settings| settings.next_task);
    if next.as_deref() == Some(NextTask::Informative.as_str()) {
        found.n_moved = Some(store::informative::place(&mut db, project.id).await?);
    }
    Ok(found)
}

/// The disagreement over each task; those that do not fit are left out.
fn measure_all(judges: &[Judge], tasks: &[TaskTexts]) -> anyhow::Result<Vec<(TaskId, f64)>> {
    let mut measured = Vec::with_capacity(tasks.len());
    'tasks: for task in tasks {
        let about = || format!("the task of prompt {}", task.external_id);
        let prompt: Prompt = serde_json::from_value(task.body.clone()).with_context(about)?;
        let texts: Vec<&str> = task.texts.iter().map(String::as_str).collect();
        let mut members = Vec::new();
        for judge in judges {
            match judge.score_by_member(&prompt, &texts).with_context(about)? {
                Some(scores) => members.extend(scores),
                None => continue 'tasks,
            }
        }
        if let Some(value) = disagreement(&members) {
            measured.push((task.id, value));
        }
    }
    Ok(measured)
}
