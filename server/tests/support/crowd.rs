//! Labelers whose ways are known, at work through the queue and the submissions of the server.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;
use server::domain::form::Form;
use server::domain::ids::{AccountId, CompletionId, ProjectId, PromptId};
use server::domain::prompt::CATEGORIES;
use server::domain::ranking::{CandidateInput, RankingInput};
use server::domain::role::Role;
use server::domain::submission::{Input, TimeSpent};
use server::domain::task::TaskKind;
use server::store;
use server::store::submissions::NewSubmission;
use sqlx::PgPool;

/// How somebody labels.
#[derive(Clone, Copy)]
pub(crate) struct Ways {
    /// Spread of the error in what they hold a completion to be worth; models are 1 apart.
    pub(crate) error: f64,
    /// What 100 letters are worth to them.
    pub(crate) length: f64,
    /// What a place nearer to the top is worth to them.
    pub(crate) place: f64,
    /// Completions nearer to each other than this are tied.
    pub(crate) tie: f64,
    /// Seconds for a task, in the middle.
    pub(crate) seconds: f64,
    /// How often they answer the flag wrongly.
    pub(crate) flag_error: f64,
}

impl Default for Ways {
    fn default() -> Self {
        Self {
            error: 0.8,
            length: 0.0,
            place: 0.0,
            tie: 0.25,
            seconds: 60.0,
            flag_error: 0.05,
        }
    }
}

/// A project of `n` tasks, each with one completion of each of these models, the first the best. The worth of
/// a completion stands in its text.
pub(crate) async fn project(
    db: &PgPool,
    n: usize,
    models: &[&str],
    overlap: i16,
    rng: &mut ChaCha12Rng,
) -> ProjectId {
    let mut transaction = db.begin().await.unwrap();
    let id = store::projects::insert(&mut transaction, "crowd", "Crowd", overlap, 3600)
        .await
        .unwrap();
    let form = serde_json::to_value(Form::default()).unwrap();
    store::projects::insert_form(&mut transaction, id, &form)
        .await
        .unwrap();
    let guidelines = serde_json::json!({"en": "# Be fair"});
    store::projects::insert_guidelines(&mut transaction, id, &guidelines, None)
        .await
        .unwrap();
    for task in 0..n {
        let prompt_id = PromptId::new();
        sqlx::query(
            "INSERT INTO prompts (id, project_id, external_id, body, category) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(prompt_id.0)
        .bind(id.0)
        .bind(format!("p{task}"))
        .bind(serde_json::json!(format!("Question {task}?")))
        .bind(CATEGORIES[task % 4])
        .execute(&mut *transaction)
        .await
        .unwrap();
        let mut completions = Vec::new();
        for (place, model) in models.iter().enumerate() {
            let completion_id = CompletionId::new();
            let worth = -(place as f64) + noise(rng);
            let text = format!("{worth:.3} {}", "word ".repeat(rng.random_range(4..60)));
            sqlx::query(
                "INSERT INTO completions (id, prompt_id, text, model) VALUES ($1, $2, $3, $4)",
            )
            .bind(completion_id.0)
            .bind(prompt_id.0)
            .bind(text)
            .bind(model)
            .execute(&mut *transaction)
            .await
            .unwrap();
            completions.push(completion_id);
        }
        completions.shuffle(rng);
        let kind = TaskKind::Rank;
        store::tasks::insert(&mut transaction, id, prompt_id, kind, None, &completions)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
    id
}

/// Makes every `nth` task a gold task, whose answer is the order of worth.
pub(crate) async fn make_gold(db: &PgPool, project: ProjectId, nth: usize) {
    let tasks: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT id FROM tasks WHERE project_id = $1 ORDER BY id")
            .bind(project.0)
            .fetch_all(db)
            .await
            .unwrap();
    for task in tasks.into_iter().step_by(nth) {
        sqlx::query("UPDATE tasks SET purpose = 'gold', overlap = 10000 WHERE id = $1")
            .bind(task)
            .execute(db)
            .await
            .unwrap();
        let texts: Vec<(i16, String)> = sqlx::query_as(
            "SELECT k.slot, c.text FROM candidates k JOIN completions c ON c.id = k.completion_id WHERE k.task_id = $1",
        )
        .bind(task)
        .fetch_all(db)
        .await
        .unwrap();
        let rank = |own: &str| {
            1 + texts
                .iter()
                .filter(|(_, other)| worth(other) > worth(own))
                .count()
        };
        let known: Vec<_> = texts
            .iter()
            .map(|(slot, text)| {
                let flags = serde_json::json!({"fails_instruction": worth(text) < -2.0});
                serde_json::json!({"slot": slot, "rank": rank(text), "flags": flags})
            })
            .collect();
        sqlx::query("INSERT INTO gold_answers (task_id, version, answer) VALUES ($1, 1, $2)")
            .bind(task)
            .bind(serde_json::json!({"candidates": known}))
            .execute(db)
            .await
            .unwrap();
    }
}

/// A labeler of this name.
pub(crate) async fn labeler(db: &PgPool, name: &str) -> AccountId {
    let mut connection = db.acquire().await.unwrap();
    let email = format!("{}@example.org", name.to_lowercase().replace(' ', "."));
    let id = store::accounts::insert(&mut connection, &email, name, &[Role::Labeler], false)
        .await
        .unwrap();
    drop(connection);
    super::fake::acknowledge(db).await;
    id
}

/// Lets somebody do their next task; false when there is none.
pub(crate) async fn work(
    db: &PgPool,
    project: ProjectId,
    labeler: AccountId,
    ways: &Ways,
    rng: &mut ChaCha12Rng,
) -> bool {
    let mut connection = db.acquire().await.unwrap();
    let lease = store::queue::lease(&mut connection, project, labeler, rng)
        .await
        .unwrap();
    let Some(lease) = lease else { return false };
    let view = store::tasks::find_view(&mut connection, lease.task_id)
        .await
        .unwrap();
    let shown = lease.display_order.iter().enumerate();
    let held: Vec<f64> = shown
        .map(|(place, slot)| {
            let text = &view.texts[*slot as usize];
            worth(text) + ways.error * noise(rng) + ways.length * text.len() as f64 / 100.0
                - ways.place * place as f64
        })
        .collect();
    let candidates = held.iter().zip(&lease.display_order).enumerate();
    let candidates = candidates.map(|(place, (own, slot))| {
        let better = held.iter().filter(|other| **other > own + ways.tie).count();
        let is_bad = worth(&view.texts[*slot as usize]) < -2.0;
        let says = is_bad != (rng.random::<f64>() < ways.flag_error);
        CandidateInput {
            position: place + 1,
            rank: Some(better as i16 + 1),
            rating: Some((5.0 + own).round().clamp(1.0, 7.0) as i16),
            flags: [("fails_instruction".to_owned(), says)].into(),
            ..CandidateInput::default()
        }
    });
    let input = RankingInput {
        candidates: candidates.collect(),
        ..RankingInput::default()
    };
    submit(
        &mut connection,
        &lease,
        labeler,
        input,
        ways.seconds * (0.5 * noise(rng)).exp(),
    )
    .await;
    true
}

/// Ranks the next task by slot; false when there is none. `ranks` says the ranks of a prompt's slots.
pub(crate) async fn rank(
    db: &PgPool,
    project: ProjectId,
    labeler: AccountId,
    rng: &mut ChaCha12Rng,
    ranks: impl Fn(&str) -> Vec<i16>,
) -> bool {
    let mut connection = db.acquire().await.unwrap();
    let lease = store::queue::lease(&mut connection, project, labeler, rng)
        .await
        .unwrap();
    let Some(lease) = lease else { return false };
    let view = store::tasks::find_view(&mut connection, lease.task_id)
        .await
        .unwrap();
    let ranks = ranks(view.prompt.as_str().unwrap());
    let shown = lease.display_order.iter().enumerate();
    let candidates = shown.map(|(place, slot)| CandidateInput {
        position: place + 1,
        rank: Some(ranks[*slot as usize]),
        ..CandidateInput::default()
    });
    let input = RankingInput {
        candidates: candidates.collect(),
        strength: (ranks.len() == 2 && ranks[0] != ranks[1]).then_some(2),
        ..RankingInput::default()
    };
    submit(&mut connection, &lease, labeler, input, 42.0).await;
    true
}

async fn submit(
    db: &mut sqlx::PgConnection,
    lease: &store::queue::Lease,
    labeler: AccountId,
    input: RankingInput,
    seconds: f64,
) {
    let new = NewSubmission {
        idempotency_key: &lease.assignment_id.to_string(),
        input: &Input::Ranking(input),
        time: TimeSpent {
            active_ms: (seconds * 1000.0) as i64,
            idle_ms: 0,
        },
        replaces: None,
        revision: None,
    };
    // Nobody is active for longer than the page is open.
    sqlx::query("UPDATE assignments SET leased_at = now() - INTERVAL '1 hour' WHERE id = $1")
        .bind(lease.assignment_id.0)
        .execute(&mut *db)
        .await
        .unwrap();
    store::submissions::submit(db, lease.assignment_id, labeler, &new)
        .await
        .unwrap();
}

/// Spreads the rankings evenly over the days before now.
pub(crate) async fn spread_over_days(db: &PgPool, days: f64) {
    for statement in [
        "ALTER TABLE rankings DISABLE TRIGGER rankings_are_immutable",
        "UPDATE rankings r SET created_at = now() - make_interval(secs => 86400 * $1 * (1 - n.share))
         FROM (SELECT id, percent_rank() OVER (ORDER BY id) AS share FROM rankings) n WHERE n.id = r.id AND $1 > 0",
        "ALTER TABLE rankings ENABLE TRIGGER rankings_are_immutable",
        "UPDATE assignments a SET leased_at = f.created_at - INTERVAL '1 hour'
         FROM rankings f WHERE f.assignment_id = a.id AND f.version = 1",
    ] {
        let query = sqlx::query(statement);
        let query = if statement.contains("$1") { query.bind(days) } else { query };
        query.execute(db).await.unwrap();
    }
}

/// What a completion is worth, as its text says.
fn worth(text: &str) -> f64 {
    text.split(' ').next().unwrap().parse().unwrap()
}

/// A draw with mean 0 and about the deviation 1: of three uniform ones.
fn noise(rng: &mut ChaCha12Rng) -> f64 {
    (0..3).map(|_| rng.random_range(-1.0..1.0)).sum()
}
