//! What figures, pages and lists count: the same words count the same everywhere.

use std::collections::BTreeMap;

use serde_json::Value;
use server::commands::simulate::simulate;
use server::domain::form::Form;
use server::domain::gold::Tally;
use server::domain::ids::{AccountId, AssignmentId, ProjectId};
use server::domain::ranking::{CandidateInput, RankingInput};
use server::domain::submission::{Input, TimeSpent};
use server::store;
use server::store::submissions::NewSubmission;
use sqlx::PgPool;
use uuid::Uuid;

use crate::agreement::crowd_at_work;
use crate::support::{TestApp, crowd, fake};

/// Corrects everything that still can be: all are tied, and took long.
async fn correct_what_can_be(db: &PgPool) -> usize {
    let rows: Vec<(Uuid, Uuid, i64)> = sqlx::query_as(
        "SELECT a.id, a.labeler_id, (SELECT count(*) FROM candidates c WHERE c.task_id = a.task_id)
         FROM assignments a WHERE a.status = 'submitted'",
    )
    .fetch_all(db)
    .await
    .unwrap();
    let mut connection = db.acquire().await.unwrap();
    let mut n = 0;
    for (id, labeler, k) in rows {
        let tied = (1..=k as usize).map(|position| CandidateInput {
            position,
            rank: Some(1),
            ..CandidateInput::default()
        });
        let input = Input::Ranking(RankingInput {
            candidates: tied.collect(),
            ..RankingInput::default()
        });
        let new = NewSubmission {
            idempotency_key: &format!("correction of {id}"),
            input: &input,
            time: TimeSpent {
                active_ms: 900_000,
                idle_ms: 0,
            },
            replaces: Some(1),
            revision: None,
        };
        let (id, labeler) = (AssignmentId(id), AccountId(labeler));
        // Only the last ones of each labeler can be corrected.
        n += usize::from(
            store::submissions::submit(&mut connection, id, labeler, &new)
                .await
                .is_ok(),
        );
    }
    n
}

/// The share of pairs that both order strictly which they order alike, and how many there are.
fn alike(first: &[Option<i16>], again: &[Option<i16>]) -> (f64, usize) {
    let (mut same, mut all) = (0.0, 0);
    for one in 0..first.len() {
        for other in one + 1..first.len() {
            let order = |said: &[Option<i16>]| said[one].unwrap().cmp(&said[other].unwrap());
            let (before, after) = (order(first), order(again));
            if before.is_ne() && after.is_ne() {
                all += 1;
                same += f64::from(u8::from(before == after));
            }
        }
    }
    (same, all)
}

fn assert_share(figure: &Value, part: f64, whole: usize) {
    assert_eq!(figure["n"], whole, "{figure}");
    match figure["value"].as_f64() {
        Some(value) => assert!(
            (value - part / whole as f64).abs() < 1e-9,
            "{figure} {part}"
        ),
        None => assert!(figure["n_prompts"].as_u64().unwrap() < 10, "{figure}"),
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn pages_lists_and_figures_count_gold_repeats_and_attention_alike(db: PgPool) {
    let project = crowd_at_work(&db, 75).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    assert!(correct_what_can_be(&db).await > 40);
    let path = format!("/api/v1/projects/{project}/agreement");
    let found = admin.get(&path).await.json();
    let of = |id: AccountId| {
        let labelers = found["labelers"].as_array().unwrap();
        let own = labelers
            .iter()
            .find(|own| own["labeler_id"] == id.to_string());
        own.unwrap().clone()
    };
    let mut connection = db.acquire().await.unwrap();

    let mut gold: BTreeMap<AccountId, Tally> = BTreeMap::new();
    for scored in store::gold::scores(&mut connection, project).await.unwrap() {
        let sum = gold.entry(scored.labeler_id).or_default();
        *sum = sum.plus(scored.score.ranks);
    }
    assert_eq!(gold.len(), 4);
    for (id, sum) in gold {
        assert_share(&of(id)["gold"], sum.agreed, sum.n as usize);
    }

    let mut repeats: BTreeMap<AccountId, (f64, usize)> = BTreeMap::new();
    for own in store::repeats::list(&mut connection, project)
        .await
        .unwrap()
    {
        let (same, all) = alike(&own.first, &own.again);
        let sum = repeats.entry(own.labeler_id).or_default();
        *sum = (sum.0 + same, sum.1 + all);
    }
    assert_eq!(repeats.len(), 4);
    for (id, (same, all)) in repeats {
        assert_share(&of(id)["repeats"]["ties_left_out"], same, all);
    }

    let (n, n_rankings, n_untouched, n_too_fast): (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE x.can_be_untouched), count(*) FILTER (WHERE x.is_untouched),
                count(*) FILTER (WHERE x.is_too_fast)
         FROM attention x JOIN tasks t ON t.id = x.task_id WHERE t.purpose = 'label'",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    assert!(
        n_too_fast > 0 && n_untouched > 0,
        "{n_too_fast} {n_untouched}"
    );
    let overall = &found["overall"];
    assert_share(&overall["too_fast"], n_too_fast as f64, n as usize);
    assert_share(
        &overall["untouched"],
        n_untouched as f64,
        n_rankings as usize,
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn comparisons_of_two_are_never_untouched(db: PgPool) {
    let project = fake::project(&db, 12, 2, 1, 3600).await;
    let ada = crowd::labeler(&db, "Ada").await;
    let mut rng = rand::SeedableRng::seed_from_u64(1);
    while crowd::rank(&db, project, ada, &mut rng, |_| vec![1, 2]).await {}
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let path = format!("/api/v1/projects/{project}/agreement");
    let found = admin.get(&path).await.json();
    assert_eq!(found["n_rankings"], 12);
    assert_eq!(found["overall"]["untouched"]["n"], 0);
    assert_eq!(found["overall"]["too_fast"]["n"], 12);
}

/// Simulated rankings of a project with this form.
async fn simulated(db: &PgPool, form: &Form) -> (ProjectId, u64) {
    let id = fake::project(db, 20, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await.account_id.unwrap();
    let mut connection = db.acquire().await.unwrap();
    let fields = serde_json::to_value(form).unwrap();
    store::forms::publish(&mut connection, id, 1, &fields, admin)
        .await
        .unwrap();
    let project = store::projects::find(&mut connection, id)
        .await
        .unwrap()
        .unwrap();
    (id, simulate(db, &project, 1, 0.1, 1, 20).await.unwrap())
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn simulated_labelers_follow_an_edited_form(db: PgPool) {
    let mut form = Form::default();
    (form.overall.min, form.overall.max) = (1, 5);
    form.flags.retain(|flag| flag.key != "fails_instruction");
    let (_, n) = simulated(&db, &form).await;
    assert_eq!(n, 20);
    let (highest, flags): (i16, i64) =
        sqlx::query_as("SELECT max(overall), count(*) FILTER (WHERE flags <> '{}') FROM ratings")
            .fetch_one(&db)
            .await
            .unwrap();
    assert!(highest <= 5 && flags == 0, "{highest} {flags}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn simulated_labelers_say_no_too(db: PgPool) {
    let (_, n) = simulated(&db, &Form::default()).await;
    assert_eq!(n, 20);
    let (yes, no): (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE flags->'fails_instruction' = 'true'),
                count(*) FILTER (WHERE flags->'fails_instruction' = 'false') FROM ratings",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    assert!(yes > 0 && no > 0 && yes + no == 80, "{yes} {no}");
}
