//! The pages of runs: what people look for stands first, and what cannot be told is said.

use axum::body::Body;
use scraper::{Html, Selector};
use serde_json::{Value, json};
use server::domain::ids::RunId;
use server::store::runs::Ending;
use sqlx::PgPool;

use crate::runs::{finish, queue, record, worker};
use crate::support::TestApp;
use crate::support::fake;

/// Checks that a page has these parts, one after another.
fn assert_in_order(page: &str, parts: &[&str]) {
    let mut rest = page;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("no {part:?} at its place in {page}");
        };
        rest = after;
    }
}

/// What a PPO run tells: two steps, and six prompts with their answers before and after.
fn told_by_ppo() -> Vec<(String, Value)> {
    let metrics = |step: u64, score: f64| {
        let values = json!({
            "objective/score": score, "objective/kl": 2.5, "policy/ratio": 1.0, "ptx/loss": 0.0,
            "own/figure": 7.0,
        });
        (
            "metrics".to_owned(),
            json!({"step": step, "values": values}),
        )
    };
    let mut events = vec![metrics(1, -2.0), metrics(2, -1.25)];
    for index in 0..6 {
        let prompt = match index {
            0 => json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Why is the sky blue?"},
            ]),
            _ => json!(format!("Question {index}")),
        };
        for moment in ["before", "after"] {
            let data = json!({
                "moment": moment, "prompt_index": index, "prompt": prompt,
                "completion": format!("Answer {moment} {index}"), "reward": 0.5, "kl": 0.1,
            });
            events.push(("sample".to_owned(), json!({"step": 0, "data": data})));
        }
    }
    events
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_run_page_shows_first_what_people_look_for(db: PgPool) {
    let id = queue(&db, 1).await[0];
    sqlx::query("UPDATE runs SET kind = 'ppo', config = $1")
        .bind(json!({"kl_budget": 30.0, "iterations": 24}))
        .execute(&db)
        .await
        .unwrap();
    worker(&db, "w").claim_next().await.unwrap().unwrap();
    record(&db, id, "w", &told_by_ppo()).await;
    let app = TestApp::new(db.clone());
    let operator = app.operator().await;
    let path = format!("/runs/{id}");
    let running = operator.get(&path).await.body;
    let newest = "data-follows=\"objective/score\">-1.250<";
    assert_in_order(&running, &["id=\"run-headlines\"", newest, "of 30 nats"]);
    let about = ["id=\"run-about\"", "Started", "Worker"];
    assert_in_order(&running, &about);

    let summary = json!({
        "reward_before": -2.24, "reward_after": -1.11, "reward_gain": 1.13,
        "reward_gain_low": 0.58, "reward_gain_high": 1.68, "kl_last_batch": 2.5,
        "n_iterations": 12.0, "n_evaluation_prompts": 6.0, "evaluation_prompts_kept_out": 1.0,
    });
    finish(&db, id, "w", Ending::Finished(summary)).await;
    let page = operator.get(&path).await.body;
    let parts = [
        "id=\"run-status\"",
        "Ended early, after 12 of 24 iterations",
        "Mean reward before training",
        "-2.240",
        "on 6 prompts kept out of training",
        "-1.110",
        "+1.130",
        "95 % interval [0.580, 1.680]",
        "2.500",
        "of 30 nats allowed",
        "system</p>",
        "Be brief.",
        "user</p>",
        "Why is the sky blue?",
        "Answer before 0",
        "Answer after 0",
        "Question 3",
        "2 more samples",
        "Question 4",
        "<b>Mean score that is trained on (the reward, clipped, with what a missing end costs)</b> \
         <code class=\"key\">objective/score</code>",
        "<details id=\"run-all-figures\">",
        "<b>Gain in reward</b> <code class=\"key\">reward_gain</code>",
        "<b><code>own/figure</code></b>",
        "data-metric=\"policy/ratio\"",
        "id=\"run-about\"",
        "Ended",
    ];
    assert_in_order(&page, &parts);
    assert!(!page.contains("data-follows"), "nothing moves any more");
    assert!(!page.contains("ptx/loss"), "no texts were given");

    let request = operator
        .request("GET", &path)
        .header("accept-language", "zh");
    let chinese = operator.send(request.body(Body::empty()).unwrap()).await;
    assert!(
        chinese
            .body
            .contains("<b>训练所用的平均得分（裁剪后的奖励，并扣除未结束的代价）</b>")
    );
    assert!(chinese.body.contains("95% 区间 [0.580, 1.680]"));
}

/// A report with what a short run rarely has: folds by labeler, a part of one prompt, no
/// temperature.
fn report() -> Value {
    let share = |value: f64, interval: Value, n_prompts: usize| {
        let pairs = 6 * n_prompts;
        json!({"value": value, "interval": interval, "n_pairs": pairs, "n_prompts": n_prompts})
    };
    let all = share(0.75, json!({"low": 0.625, "high": 0.875}), 40);
    let one = share(1.0, Value::Null, 1);
    let slice = |name: Option<&str>, accuracy: &Value| {
        let length = share(0.5, Value::Null, 1);
        json!({"name": name, "accuracy": accuracy, "length_only": length})
    };
    json!({
        "source": "cross_validation", "n_rankings": 40, "accuracy": all, "length_only": all,
        "over_length": all,
        "calibration": {
            "bins": [{"from": 0.5, "to": 0.7, "confidence": 0.6, "accuracy": all}],
            "raw": {"ece": 0.125, "brier": 0.25, "nll": 0.625},
            "temperature": null, "scaled": null,
        },
        "length": {
            "n_completions": 160,
            "overall": {"pearson": -0.25, "spearman": null},
            "within_prompt": {"pearson": 0.125, "spearman": 0.5},
            "better_is_shorter": one, "better_is_longer": null, "near_in_length": all,
        },
        "slices": {
            "category": [slice(Some("<b>chat</b>"), &one), slice(Some("open_qa"), &one), slice(None, &all)],
            "labeler": [], "completions": [slice(Some("4"), &all)],
        },
        "agreement": null,
        "labeler_folds": {
            "folds": [], "n_unnamed": 0,
            "training_labelers": {"mean": 0.724, "deviation": 0.004, "n": 5},
            "held_out_labelers": {"mean": 0.696, "deviation": 0.009, "n": 5},
        },
    })
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_report_says_where_it_cannot_tell_an_interval(db: PgPool) {
    let id = queue(&db, 1).await[0];
    sqlx::query("UPDATE runs SET kind = 'reward'")
        .execute(&db)
        .await
        .unwrap();
    worker(&db, "w").claim_next().await.unwrap().unwrap();
    let old = (
        "report".to_owned(),
        json!({"data": {"of": "another version"}}),
    );
    record(&db, id, "w", &[old]).await;
    let app = TestApp::new(db.clone());
    let operator = app.operator().await;
    let path = format!("/runs/{id}");
    let page = operator.get(&path).await.body;
    assert!(!page.contains("Report on the model"), "it cannot be read");
    record(
        &db,
        id,
        "w",
        &[("report".to_owned(), json!({"data": report()}))],
    )
    .await;
    let summary = json!({
        "held_out_accuracy": 1.0, "length_only_accuracy": 0.5, "length_only_accuracy_low": 0.4,
        "length_only_accuracy_high": 0.6, "accuracy_over_length": 0.5,
    });
    finish(&db, id, "w", Ending::Finished(summary)).await;
    let page = operator.get(&path).await.body;
    let none = "no interval: too few prompts, or all alike";
    let parts = [
        "1.000",
        none,
        "95 % interval [0.400, 0.600]",
        "+0.500",
        none,
        "by cross-validation on 240 pairs of 40 prompts (40 rankings)",
        "0.1250",
        "No finite temperature fits",
        "The model on labelers it learnt from",
        "± 0.004 (deviation over 5 folds)",
        "The model on labelers held out",
        "0.696",
        "id=\"report-category\"",
        "&#60;b&#62;chat&#60;/b&#62;",
        "no interval",
        "open question",
        "not stated",
        "[0.625, 0.875]",
        "id=\"report-completions\"",
        "Where the better one is shorter",
        "no interval",
        "Where lengths differ by at most 10 %",
        "-0.250",
        "none: one of the two does not vary",
        "+0.125",
    ];
    assert_in_order(&page, &parts);
    for absent in [
        "<b>chat</b>",
        "open_qa",
        "id=\"report-labeler\"",
        "share-ceiling",
        "dashed line across",
        "Where the better one is longer",
    ] {
        assert!(!page.contains(absent), "{absent}");
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_run_that_ended_without_figures_says_so(db: PgPool) {
    let id = queue(&db, 1).await[0];
    let app = TestApp::new(db);
    let operator = app.operator().await;
    let path = format!("/runs/{id}");
    assert!(operator.get(&path).await.body.contains("No numbers yet"));
    operator.post(&format!("{path}/cancel"), "").await;
    let page = operator.get(&path).await.body;
    assert!(page.contains("This run ended before its first figure"));
    assert!(page.contains("Somebody asked this run to stop"));
    assert!(!page.contains("No numbers yet"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_choice_says_first_what_tells_it_from_others(db: PgPool) {
    queue(&db, 1).await;
    let change = "UPDATE snapshots SET kind = 'rankings', n_items = 396, n_prompts = 198, \
                  includes_simulated = true, created_at = '2020-11-24 17:10:00+00'";
    fake::rewrite(&db, change).await;
    sqlx::query("UPDATE checkpoints SET created_at = '2020-11-24 17:10:00+00'")
        .execute(&db)
        .await
        .unwrap();
    let app = TestApp::new(db);
    let operator = app.operator().await;
    let page = operator.get("/runs/new?kind=reward").await.body;
    for choice in [
        ">none · 396 rankings · 198 prompts · with simulated · 24 Nov 2020 17:10</option>",
        ">none · base · 0.0 M · 24 Nov 2020 17:10</option>",
    ] {
        assert!(page.contains(choice), "no {choice} in {page}");
    }
}

/// What a batch of PPO tells.
fn batch(step: u64, distance: f64, score: f64, gold: f64) -> (String, Value) {
    let values = json!({
        "objective/root_kl": distance, "objective/score": score, "objective/score_std": 2.0,
        "objective/gold": gold, "objective/gold_std": 4.0, "objective/kl": distance * distance,
        "policy/ratio": 1.0,
    });
    (
        "metrics".to_owned(),
        json!({"step": step, "values": values}),
    )
}

/// A PPO run that a worker `w` has.
async fn claim_ppo(db: &PgPool) -> RunId {
    let id = queue(db, 1).await[0];
    sqlx::query("UPDATE runs SET kind = 'ppo', config = $1")
        .bind(json!({"kl_budget": 30.0, "iterations": 24}))
        .execute(db)
        .await
        .unwrap();
    worker(db, "w").claim_next().await.unwrap().unwrap();
    id
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_second_opinion_stands_beside_the_reward_and_pictures_have_their_numbers(db: PgPool) {
    let id = claim_ppo(&db).await;
    // Both gain up to a distance and lose beyond it, the second opinion more.
    let mut events: Vec<(String, Value)> = (1..=60)
        .map(|step: u64| {
            let d = (step - 1) as f64 / 20.0;
            let worth = |alpha: f64| match d > 0.0 {
                true => d * (alpha - d.ln()),
                false => 0.0,
            };
            batch(step, d, 1.0 + 2.0 * worth(0.5), -1.0 + 4.0 * worth(-0.5))
        })
        .collect();
    let data = json!({
        "moment": "before", "prompt_index": 0, "prompt": "Why?", "completion": "So.",
        "reward": 0.5, "gold": -0.75, "kl": 0.25,
    });
    events.push(("sample".to_owned(), json!({"step": 0, "data": data})));
    let check = json!({"name": "ratio is 1", "passed": true, "detail": "0"});
    events.push(("check".to_owned(), check));
    record(&db, id, "w", &events).await;
    let app = TestApp::new(db.clone());
    let operator = app.operator().await;
    let path = format!("/runs/{id}");
    let running = operator.get(&path).await.body;
    assert!(running.contains("data-follows=\"objective/gold\""));

    let summary = json!({
        "reward_before": 1.0, "reward_after": 2.13, "reward_gain": 1.13, "reward_gain_low": 0.58,
        "reward_gain_high": 1.68, "gold_gain": -0.2, "gold_gain_low": -0.5, "gold_gain_high": 0.1,
        "n_iterations": 24.0,
    });
    finish(&db, id, "w", Ending::Finished(summary)).await;
    let page = operator.get(&path).await.body;
    let parts = [
        "Gain in reward",
        "+1.130",
        "Gain by the second opinion",
        "-0.200",
        "95 % interval [-0.500, 0.100]",
        "reward <b>0.500</b> · second opinion <b>-0.750</b> · KL 0.250",
        "data-metric=\"objective/gold\"",
        "<details id=\"run-all-figures\">",
        "data-metric=\"policy/ratio\"",
    ];
    assert_in_order(&page, &parts);

    let html = Html::parse_document(&page);
    let find = |css: &str| -> Vec<String> {
        let selector = Selector::parse(css).unwrap();
        let found = html.select(&selector);
        found.map(|one| one.text().collect()).collect()
    };
    // Who is drawn how, whose peak is where, and where nothing is gained.
    let legend = find("#run-frontier .legend li:has(circle), #run-frontier .legend li:has(rect)");
    assert_eq!(legend.len(), 2);
    let words = find("#run-frontier .chart-words");
    assert_eq!(words, ["peak, reward model", "peak, second opinion"]);
    assert!(find("#run-frontier > svg text").contains(&"0".to_owned()));
    // A table of fifty rows at most, from the first to the last.
    let rows = find("#run-frontier-numbers tbody tr");
    assert_eq!(rows.len(), 50);
    assert!(rows[0].starts_with("10.000+0.000+0.000"), "{}", rows[0]);
    assert!(rows[49].starts_with("602.950"), "{}", rows[49]);
    let rows = find("#numbers-objective-kl tbody tr");
    assert_eq!((rows.len(), rows[0].as_str()), (50, "10.0000"));
    assert!(page.contains("50 of 60 steps, at even distances."));
    assert_eq!(find("#run-checks th"), ["Status", "Check", "Found"]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn answers_before_and_after_are_to_the_same_prompts_however_many_there_are(db: PgPool) {
    let id = claim_ppo(&db).await;
    let mut events = Vec::new();
    // A run that started anew answers them again before training.
    for moment in ["before", "before", "after"] {
        for index in 0..150 {
            let data = json!({
                "moment": moment, "prompt_index": index, "prompt": format!("Question {index}"),
                "completion": format!("{moment} {index} of {}", events.len() / 150), "reward": 0.5,
            });
            events.push(("sample".to_owned(), json!({"step": 0, "data": data})));
        }
    }
    record(&db, id, "w", &events).await;
    let app = TestApp::new(db);
    let operator = app.operator().await;
    let page = operator.get(&format!("/runs/{id}")).await.body;
    let count = |part: &str| page.matches(part).count();
    assert_eq!((count("sample-before"), count("sample-after")), (100, 100));
    assert!(page.contains("96 more samples"));
    let parts = [
        "Question 0<",
        "before 0 of 1",
        "after 0 of 2",
        "Question 1<",
    ];
    assert_in_order(&page, &parts);
    assert_in_order(&page, &["Question 99<", "before 99 of 1", "after 99 of 2"]);
    assert!(!page.contains("Question 100<"));
}

/// Only the newest figures of a long run are read, and its first batch is not among them.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_gains_of_a_long_run_are_measured_from_its_first_batch(db: PgPool) {
    let id = claim_ppo(&db).await;
    record(&db, id, "w", &[batch(1, 0.0, 1.0, 0.0)]).await;
    let statement = "INSERT INTO run_events (run_id, seq, kind, data)
        SELECT $1, n + 100, 'metrics', jsonb_build_object('step', n, 'values', jsonb_build_object(
            'objective/root_kl', n / 10000.0, 'objective/score', 7, 'objective/score_std', 2))
        FROM generate_series(2, 20001) AS n";
    sqlx::query(statement)
        .bind(id.0)
        .execute(&db)
        .await
        .unwrap();
    let app = TestApp::new(db.clone());
    let operator = app.operator().await;
    let path = format!("/runs/{id}");
    let page = operator.get(&path).await.body;
    // From a score of 1 to one of 7, in deviations of 2.
    let newest = "<b>The reward model that is trained against</b>";
    assert_in_order(&page, &["id=\"run-judges\"", newest, ">+3.00<"]);
    // A picture that begins later would show no gain at all.
    sqlx::query("DELETE FROM run_events WHERE kind = 'metrics' AND data -> 'step' = '1'")
        .execute(&db)
        .await
        .unwrap();
    let page = operator.get(&path).await.body;
    assert!(!page.contains("id=\"run-judges\""));
}
