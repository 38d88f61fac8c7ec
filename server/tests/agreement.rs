//! The researcher's figures: by hand, by API, by page and as files; who may see them; and whether a study of
//! labelers of known quality finds who is who.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use scraper::{Html, Selector};
use serde_json::{Value, json};
use server::commands::simulate::{Crowd, simulate_crowd, study};
use server::domain::ids::{CompletionId, ProjectId, PromptId};
use server::domain::labels::Filter;
use server::domain::role::Role;
use server::domain::task::TaskKind;
use server::store;
use server::store::labels::MOST;
use sqlx::PgPool;

use crate::support::crowd::{self, Ways};
use crate::support::{TestApp, fake};

fn seeded(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

/// The number in a prompt of [`fake::project`]: "What is 7 + 1?".
fn number(prompt: &str) -> usize {
    let digits = prompt.split(' ').nth(2).unwrap();
    digits.parse().unwrap()
}

/// Twelve tasks: both rank by slot, but the second the other way round in each fourth, with a tie at the top
/// in each sixth.
async fn twelve_tasks(db: &PgPool) -> ProjectId {
    let project = fake::project(db, 12, 4, 2, 3600).await;
    let (ada, bob) = (
        crowd::labeler(db, "Ada").await,
        crowd::labeler(db, "Bob").await,
    );
    let mut rng = seeded(1);
    while crowd::rank(db, project, ada, &mut rng, |_| vec![1, 2, 3, 4]).await {}
    let second = |prompt: &str| match number(prompt) {
        task if task % 4 == 0 => vec![4, 3, 2, 1],
        task if task % 6 == 1 => vec![1, 1, 3, 4],
        _ => vec![1, 2, 3, 4],
    };
    while crowd::rank(db, project, bob, &mut rng, second).await {}
    project
}

fn assert_near(found: &Value, expected: f64) {
    let found = found
        .as_f64()
        .unwrap_or_else(|| panic!("{found} is no number"));
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn figures_of_two_labelers_are_those_counted_by_hand(db: PgPool) {
    let project = twelve_tasks(&db).await;
    let app = TestApp::new(db);
    let admin = app.program("root", &[Role::Admin]).await;
    let found = admin
        .get(&format!("/api/v1/projects/{project}/agreement"))
        .await
        .json();
    assert_eq!(
        (&found["n_rankings"], &found["n_prompts"]),
        (&json!(24), &json!(12))
    );
    // Tasks 0, 4 and 8 are turned around (18 pairs), 1 and 7 have one tie each, so that 70 pairs are strict.
    let agreement = &found["overall"]["agreement"];
    assert_near(&agreement["ties_left_out"]["value"], 52.0 / 70.0);
    assert_eq!(agreement["ties_left_out"]["n"], 70);
    assert_eq!(agreement["ties_left_out"]["n_prompts"], 12);
    assert_near(&agreement["ties_half"]["value"], 53.0 / 72.0);
    assert_near(&agreement["ties_category"]["value"], 52.0 / 72.0);
    // Tau-b of a ranking with one tie against one without: 5 / sqrt(6 * 5).
    let tau_b = (7.0 + 2.0 * 5.0 / 30f64.sqrt() - 3.0) / 12.0;
    assert_near(&agreement["tau_b"]["value"], tau_b);
    let interval = &agreement["ties_left_out"];
    let ends = (
        interval["low"].as_f64().unwrap(),
        interval["high"].as_f64().unwrap(),
    );
    assert!(
        0.3 < ends.0 && ends.0 < 0.72 && ends.1 > 0.8 && ends.1 <= 1.0,
        "{ends:?}"
    );
    assert_near(&found["overall"]["ties"]["value"], 2.0 / 144.0);
    assert_near(&found["overall"]["seconds"]["value"], 42.0);
    assert_near(&found["overall"]["too_fast"]["value"], 0.0);
    // Texts grow with the slot, and the first slot is the best but where all is turned around: of the 142
    // pairs that are no tie, 18 prefer the longer.
    assert_near(&found["overall"]["longer"]["value"], 18.0 / 142.0);
    // Nobody but two: no W, and nothing rated.
    assert_eq!(found["overall"]["w"]["value"], Value::Null);
    assert_eq!(
        found["overall"]["alpha_of_ratings"][0]["alpha"]["value"],
        Value::Null
    );
    let labelers = found["labelers"].as_array().unwrap();
    let names: Vec<&str> = labelers
        .iter()
        .map(|own| own["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Ada", "Bob"]);
    assert_near(
        &labelers[1]["agreement"]["ties_left_out"]["value"],
        52.0 / 70.0,
    );
    assert_near(&labelers[1]["ties"]["value"], 2.0 / 72.0);
    assert_eq!(labelers[0]["gold"]["value"], Value::Null);
    assert_eq!(found["pairs"].as_array().unwrap().len(), 1);

    let alice = app.admin().await;
    let page = alice.get("/agreement").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(page.body.contains("74.3 %") && page.body.contains("n = 70 pairs, 12 prompts"));
    let half = alice.get("/agreement?ties=half&sort=name").await.body;
    assert!(half.contains("73.6 %"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn one_labeler_alone_gives_too_few_and_never_a_number_that_is_none(db: PgPool) {
    let project = fake::project(&db, 30, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let alice = app.admin().await;
    // Under another filter than below, as what is made stands for a while.
    let empty = alice.get("/agreement?simulated=true").await;
    assert!(
        empty.body.contains("No ranking passes this filter."),
        "{}",
        empty.body
    );
    let empty = alice.get("/models?simulated=true").await;
    assert!(empty.status.is_success());
    let ada = crowd::labeler(&db, "Ada").await;
    let mut rng = seeded(2);
    while crowd::rank(&db, project, ada, &mut rng, |_| vec![1, 2, 2, 4]).await {}
    for path in [
        "/agreement".to_owned(),
        format!("/agreement/labelers/{ada}?project=study"),
        "/models".to_owned(),
    ] {
        let page = alice.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        for word in ["NaN", "inf %", "null"] {
            assert!(!page.body.contains(word), "{path} says {word}");
        }
        assert!(page.body.contains("too few") || path == "/models", "{path}");
    }
    assert!(
        alice
            .get("/models")
            .await
            .body
            .contains("Only one model was ranked")
    );
    let found = alice
        .get(&format!("/api/v1/projects/{project}/agreement"))
        .await
        .json();
    assert_eq!(
        found["overall"]["agreement"]["ties_left_out"]["value"],
        Value::Null
    );
    assert_eq!(found["labelers"][0]["quality"]["value"], Value::Null);
    // What one alone can tell is told.
    assert_near(&found["overall"]["ties"]["value"], 1.0 / 6.0);
    assert_eq!(found["position"]["tables"][0]["k"], 4);
    let nobody = alice
        .get(&format!("/agreement/labelers/{}", ProjectId::new()))
        .await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn only_admins_see_labelers_and_names_of_models_are_not_for_labelers(db: PgPool) {
    let project = twelve_tasks(&db).await;
    let app = TestApp::new(db.clone());
    let (alice, olga) = (app.admin().await, app.operator().await);
    let (eve, nobody) = (app.labeler("eve").await, app.anonymous());
    let agreement = [
        "/agreement".to_owned(),
        "/agreement/export?table=labelers".to_owned(),
        format!("/agreement/labelers/{}", eve.account_id.unwrap()),
        format!("/api/v1/projects/{project}/agreement"),
    ];
    let models = [
        "/models".to_owned(),
        "/models/export?table=strengths".to_owned(),
        format!("/api/v1/projects/{project}/models"),
    ];
    for path in agreement.iter().chain(&models) {
        let answer = eve.get(path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(!answer.body.contains("secret-model"), "{path}");
        assert_ne!(nobody.get(path).await.status, StatusCode::OK, "{path}");
        assert_eq!(alice.get(path).await.status, StatusCode::OK, "{path}");
    }
    for path in &agreement {
        assert_eq!(olga.get(path).await.status, StatusCode::FORBIDDEN, "{path}");
        assert!(
            !alice.get(path).await.body.contains("secret-model"),
            "{path}"
        );
    }
    for path in &models {
        assert_eq!(olga.get(path).await.status, StatusCode::OK, "{path}");
        assert!(olga.get(path).await.body.contains("secret-model"), "{path}");
    }
    // Their navigation does not lead there.
    let home = eve.get("/").await.body;
    assert!(!home.contains("href=\"/agreement\"") && !home.contains("href=\"/models\""));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn filters_filter_and_wrong_ones_are_named(db: PgPool) {
    let project = twelve_tasks(&db).await;
    let statement =
        "UPDATE prompts SET category = 'chat', language = 'zh' WHERE external_id = 'p3'";
    fake::rewrite(&db, statement).await;
    sqlx::query("UPDATE tasks t SET language = p.language FROM prompts p WHERE p.id = t.prompt_id")
        .execute(&db)
        .await
        .unwrap();
    let newer = "UPDATE assignments SET form_version = 2 WHERE id IN (SELECT id FROM assignments ORDER BY id LIMIT 5)";
    fake::rewrite(&db, newer).await;
    let app = TestApp::new(db.clone());
    let alice = app.admin().await;
    let path = format!("/api/v1/projects/{project}/agreement");
    let n = async |query: &str| {
        let answer = alice.get(&format!("{path}?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.body);
        answer.json()["n_rankings"].as_u64().unwrap()
    };
    assert_eq!(
        (
            n("").await,
            n("category=chat").await,
            n("category=other").await
        ),
        (24, 2, 22)
    );
    assert_eq!((n("language=zh").await, n("language=en").await), (2, 0));
    assert_eq!(
        (n("form_version=2").await, n("form_version=1").await),
        (5, 19)
    );
    assert_eq!((n("kind=rank").await, n("kind=compare").await), (24, 0));
    // Said over ten days, of which the last five are asked for.
    crowd::spread_over_days(&db, 10.0).await;
    let today = chrono::Utc::now().date_naive();
    let before = |days| today.checked_sub_days(chrono::Days::new(days)).unwrap();
    let newer = n(&format!("since={}", before(5))).await;
    let older = n(&format!("until={}", before(6))).await;
    assert_eq!(newer + older, 24);
    assert!(newer > 9 && older > 7, "{newer} {older}");

    let wrong = "since=today&category=poems&kind=review&form_version=x&simulated=maybe";
    let refused = alice.get(&format!("{path}?{wrong}")).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    for field in ["since", "category", "kind", "form_version", "simulated"] {
        assert!(
            refused.body.contains(&format!("\"{field}\"")),
            "{field}: {}",
            refused.body
        );
    }
    for query in ["ties=never", "sort=luck", "since=today"] {
        let refused = alice.get(&format!("/agreement?{query}")).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }
    let page = alice.get("/agreement?project=nowhere").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
}

/// A crowd at work with gold tasks and repeats.
pub(crate) async fn crowd_at_work(db: &PgPool, n_tasks: usize) -> ProjectId {
    let mut rng = seeded(3);
    let models = ["model-a", "model-b", "model-c", "model-d"];
    let project = crowd::project(db, n_tasks, &models, 3, &mut rng).await;
    crowd::make_gold(db, project, 5).await;
    sqlx::query("UPDATE projects SET gold_share = 0.25, repeat_share = 0.2, repeat_after_days = 0")
        .execute(db)
        .await
        .unwrap();
    let careful = Ways {
        error: 0.3,
        ..Ways::default()
    };
    let ways = [
        ("Ada", careful),
        ("Bob", Ways::default()),
        ("Cleo", Ways::default()),
        (
            "Dan",
            Ways {
                error: 4.0,
                seconds: 6.0,
                flag_error: 0.4,
                ..Ways::default()
            },
        ),
    ];
    let mut labelers = Vec::new();
    for (name, ways) in ways {
        labelers.push((crowd::labeler(db, name).await, ways));
    }
    // Repeats end, since nobody is asked a third time; the queue may be empty for one and not for another.
    let mut is_idle = false;
    while !is_idle {
        is_idle = true;
        for (labeler, ways) in &labelers {
            is_idle &= !crowd::work(db, project, *labeler, ways, &mut rng).await;
        }
    }
    project
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn gold_and_repeats_tell_of_labelers_and_count_nowhere_else(db: PgPool) {
    let project = crowd_at_work(&db, 75).await;
    let app = TestApp::new(db.clone());
    let alice = app.admin().await;
    let path = format!("/api/v1/projects/{project}/agreement");
    let found = alice.get(&path).await.json();
    let (n, n_gold, n_repeats) = (&found["n_rankings"], &found["n_gold"], &found["n_repeats"]);
    assert_eq!(n, 180, "60 tasks that are no gold, by three each");
    assert!(
        n_gold.as_u64().unwrap() > 20 && n_repeats.as_u64().unwrap() > 20,
        "{n_gold} {n_repeats}"
    );
    let labelers = found["labelers"].as_array().unwrap();
    let figure = |name: &str, key: &str| {
        let own = labelers.iter().find(|own| own["name"] == name).unwrap();
        let figure = match key {
            "repeats" | "agreement" => &own[key]["ties_left_out"],
            _ => &own[key],
        };
        let told = figure["value"].as_f64();
        told.unwrap_or_else(|| panic!("{name} has no {key}: {figure}"))
    };
    for key in ["gold", "repeats", "agreement", "quality", "gold_flags"] {
        let (best, worst) = (figure("Ada", key), figure("Dan", key));
        assert!(best > worst + 0.08, "{key}: {best} {worst}");
    }
    assert!(figure("Ada", "too_fast") < 0.05 && figure("Dan", "too_fast") > 0.5);
    let flag = &found["flags"][0];
    assert_eq!(flag["flag"], "fails_instruction");
    // Chance alone gives 0; Dan errs in two of five.
    assert!(flag["ac1"]["value"].as_f64().unwrap() > 0.3, "{flag}");
    let told: Vec<_> = flag["labelers"].as_array().unwrap().iter().collect();
    let specificity = |name: &str| {
        let own = told.iter().find(|own| own["name"] == name).unwrap();
        own["specificity"]["value"].as_f64().unwrap()
    };
    assert!(specificity("Ada") > specificity("Dan") + 0.1);

    // What is said today is there today, although figures are kept.
    let eve = crowd::labeler(&db, "Eve").await;
    let statement = "UPDATE tasks SET overlap = 4 WHERE purpose = 'label'";
    sqlx::query(statement).execute(&db).await.unwrap();
    sqlx::query("UPDATE projects SET gold_share = 0, repeat_share = 0")
        .execute(&db)
        .await
        .unwrap();
    assert!(crowd::work(&db, project, eve, &Ways::default(), &mut seeded(4)).await);
    wait_for_rankings(&alice, &path, 181).await;

    // A correction counts in the place of what it corrects.
    let mut connection = db.acquire().await.unwrap();
    let every = Filter::default();
    let before = store::labels::list(&mut connection, project, &every, MOST)
        .await
        .unwrap();
    let corrected = before.labels[0].id;
    sqlx::query(
        "INSERT INTO rankings (id, assignment_id, version, idempotency_key, request_sha256)
         SELECT $1, assignment_id, 2, 'again', '' FROM rankings WHERE id = $2",
    )
    .bind(uuid::Uuid::now_v7())
    .bind(corrected.0)
    .execute(&db)
    .await
    .unwrap();
    let after = store::labels::list(&mut connection, project, &every, MOST)
        .await
        .unwrap();
    assert_eq!(after.labels.len(), before.labels.len());
    assert!(after.labels.iter().all(|label| label.id != corrected));
    // Of a project with too many rankings the newest are read.
    let cut = store::labels::list(&mut connection, project, &every, 7)
        .await
        .unwrap();
    assert!(cut.is_cut && cut.labels.len() == 7);
    let newest: uuid::Uuid = sqlx::query_scalar("SELECT id FROM rankings ORDER BY id DESC LIMIT 1")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(cut.labels[0].id.0, newest);
}

/// Waits for figures of so many rankings: those that took long to make stand for a while.
async fn wait_for_rankings(client: &crate::support::Client<'_>, path: &str, n: u64) {
    let started = std::time::Instant::now();
    loop {
        let found = client.get(path).await.json()["n_rankings"]
            .as_u64()
            .unwrap();
        if found == n {
            return;
        }
        assert!(
            started.elapsed().as_secs() < 120,
            "{found} rankings, not {n}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Texts of a page that look like the key of a message.
fn keys_in(page: &str) -> Vec<String> {
    let html = Html::parse_document(page);
    let main = Selector::parse("main").unwrap();
    let texts = html.select(&main).flat_map(|main| main.text());
    let words = texts.flat_map(str::split_whitespace).filter(|word| {
        let is_key = |start| word.starts_with(start) && word[1..].contains('-');
        ["agreement-", "models-", "figures-"]
            .into_iter()
            .any(is_key)
    });
    words.map(str::to_owned).collect()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn pages_and_files_have_every_table_in_both_languages(db: PgPool) {
    crowd_at_work(&db, 60).await;
    crowd::spread_over_days(&db, 20.0).await;
    let ada: uuid::Uuid = sqlx::query_scalar("SELECT id FROM accounts WHERE name = 'Ada'")
        .fetch_one(&db)
        .await
        .unwrap();
    let app = TestApp::new(db);
    let alice = app.admin().await;
    for path in [
        "/agreement",
        "/models",
        &format!("/agreement/labelers/{ada}"),
    ] {
        for lang in ["en", "zh"] {
            let request = alice.request("GET", path).header("accept-language", lang);
            let page = alice
                .send(request.body(axum::body::Body::empty()).unwrap())
                .await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.body);
            assert_eq!(keys_in(&page.body), [""; 0], "{path} in {lang}");
            assert!(page.body.contains("<svg class=\"share\""), "{path}");
        }
    }
    let page = alice.get("/agreement").await.body;
    let html = Html::parse_document(&page);
    let links = Selector::parse("#downloads a").unwrap();
    let links: BTreeSet<&str> = html
        .select(&links)
        .filter_map(|link| link.value().attr("href"))
        .collect();
    assert_eq!(links.len(), 11, "{links:?}");
    for link in links {
        let file = alice.get(link).await;
        assert_eq!(file.status, StatusCode::OK, "{link}: {}", file.body);
        if link.starts_with("/agreement") {
            let mut reader = csv::Reader::from_reader(file.body.as_bytes());
            let columns = reader.headers().unwrap().len();
            // The reader refuses a row of another length.
            let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
            assert!(columns > 5 && !rows.is_empty(), "{link}: {}", file.body);
            assert!(
                file.headers["content-disposition"]
                    .to_str()
                    .unwrap()
                    .contains("crowd-")
            );
        }
    }
    let refused = alice.get("/agreement/export?table=accounts").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn models_are_compared_by_the_rankings_and_groups_that_never_met_are_told_apart(db: PgPool) {
    let project = crowd_at_work(&db, 60).await;
    // Two more models that only met each other.
    let mut transaction = db.begin().await.unwrap();
    for task in 0..12 {
        let prompt_id = PromptId::new();
        sqlx::query(
            "INSERT INTO prompts (id, project_id, external_id, body) VALUES ($1, $2, $3, $4)",
        )
        .bind(prompt_id.0)
        .bind(project.0)
        .bind(format!("q{task}"))
        .bind(json!(format!("What is {task} + 1?")))
        .execute(&mut *transaction)
        .await
        .unwrap();
        let mut completions = Vec::new();
        for model in ["island-x", "island-y"] {
            let id = CompletionId::new();
            sqlx::query(
                "INSERT INTO completions (id, prompt_id, text, model) VALUES ($1, $2, 'text', $3)",
            )
            .bind(id.0)
            .bind(prompt_id.0)
            .bind(model)
            .execute(&mut *transaction)
            .await
            .unwrap();
            completions.push(id);
        }
        let kind = TaskKind::Compare;
        store::tasks::insert(
            &mut transaction,
            project,
            prompt_id,
            kind,
            None,
            &completions,
        )
        .await
        .unwrap();
    }
    transaction.commit().await.unwrap();
    sqlx::query("UPDATE projects SET gold_share = 0, repeat_share = 0")
        .execute(&db)
        .await
        .unwrap();
    let eve = crowd::labeler(&db, "Eve").await;
    let mut rng = seeded(5);
    // The first is preferred in nine of twelve.
    let ranks = |prompt: &str| {
        if number(prompt).is_multiple_of(4) {
            vec![2, 1]
        } else {
            vec![1, 2]
        }
    };
    while crowd::rank(&db, project, eve, &mut rng, ranks).await {}

    let app = TestApp::new(db);
    let olga = app.operator().await;
    let found = olga
        .get(&format!("/api/v1/projects/{project}/models"))
        .await
        .json();
    assert_eq!(found["n_groups"], 2);
    let models = found["models"].as_array().unwrap();
    let names: Vec<&str> = models
        .iter()
        .map(|own| own["name"].as_str().unwrap())
        .collect();
    let expected = [
        "model-a", "model-b", "model-c", "model-d", "island-x", "island-y",
    ];
    assert_eq!(names, expected);
    let groups: Vec<u64> = models
        .iter()
        .map(|own| own["group"].as_u64().unwrap())
        .collect();
    assert_eq!(groups, [1, 1, 1, 1, 2, 2]);
    // Three of four: log odds of ln 3 between the two, each half of it from their mean; a weak prior draws
    // them a little together.
    let strength = models[4]["davidson"]["value"].as_f64().unwrap();
    assert!((strength - 3f64.ln() / 2.0).abs() < 0.01, "{strength}");
    assert_near(&models[4]["win_rate"]["value"], 0.75);
    let pair = found["pairs"].as_array().unwrap();
    let pair = pair.iter().find(|own| own["first"] == 4).unwrap();
    assert_eq!(
        (&pair["wins"], &pair["losses"], &pair["second"]),
        (&json!(9), &json!(3), &json!(5))
    );
    for model in &models[..4] {
        let (davidson, luce) = (&model["davidson"], &model["plackett_luce"]);
        assert!(davidson["low"].as_f64().unwrap() < davidson["high"].as_f64().unwrap());
        assert!(luce["value"].is_number());
    }
    assert_eq!(found["categories"].as_array().unwrap().len(), 5);
    let page = olga.get("/models").await.body;
    assert!(page.contains("2 groups of models were never compared with each other"));
    let csv = olga.get("/models/export?table=strengths").await.body;
    assert!(csv.contains("\nmodel-a,model-a,"), "{csv}");
}

/// Criterion 6: forty labelers who judge 0.55 to 0.95 of all pairs rightly. `plackett simulate --labelers 40
/// --error-rates 0.05:0.45` does the same on any project.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_study_of_forty_labelers_finds_their_order_and_leaves_every_task_at_its_overlap(
    db: PgPool,
) {
    const TASKS: usize = 400;
    const OVERLAP: i16 = 3;
    let id = fake::project(&db, TASKS, 5, OVERLAP, 3600).await;
    // The more a text talks of itself, the less it is worth to simulated labelers; no two are worth the same.
    for statement in [
        "ALTER TABLE completions DISABLE TRIGGER completions_are_immutable",
        "UPDATE completions c
         SET text = (SELECT string_agg('word' || n, ' ') FROM generate_series(1, 40) n) || repeat(' I', k.slot) || '.'
         FROM candidates k WHERE k.completion_id = c.id",
        "ALTER TABLE completions ENABLE TRIGGER completions_are_immutable",
    ] {
        sqlx::query(statement).execute(&db).await.unwrap();
    }
    let mut connection = db.acquire().await.unwrap();
    let project = store::projects::find(&mut connection, id)
        .await
        .unwrap()
        .unwrap();
    drop(connection);
    let crowd = Crowd::between(40, 0.05, 0.45);
    // Four at once, so that the queue is asked by several at a time.
    let parts = crowd
        .error_rates
        .chunks(10)
        .enumerate()
        .map(|(place, rates)| Crowd {
            first: 1 + 10 * place as u32,
            error_rates: rates.to_vec(),
        });
    let parts: Vec<Crowd> = parts.collect();
    let work = parts
        .iter()
        .map(|part| simulate_crowd(&db, &project, part, 7, u64::MAX));
    let done = futures_util::future::try_join_all(work).await.unwrap();
    assert_eq!(done.iter().sum::<u64>(), TASKS as u64 * OVERLAP as u64);
    let wrong: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM tasks t WHERE t.n_held <> t.overlap OR t.overlap <>
             (SELECT count(*) FROM assignments a WHERE a.task_id = t.id AND a.status = 'submitted')",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(wrong, 0, "tasks that did not end at their overlap");
    let found = study(&db, &project, &crowd).await.unwrap();
    assert_eq!(found.labelers.len(), 40);
    let rho = found.rho.unwrap();
    assert_eq!(rho.n, 40);
    assert!(rho.value > 0.9, "{rho:?}");
    // What is told is what the error rates come to: 38 of 40 intervals hold it on average.
    let holds = found.labelers.iter().filter(|own| {
        let (low, high) = own.told.interval().unwrap();
        (low..=high).contains(&own.expected.unwrap())
    });
    assert!(holds.count() >= 34, "{:?}", found.labelers);
}
