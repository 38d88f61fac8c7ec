//! The whole loop on a tiny model, by page and worker: completions are drawn and ranked, a reward
//! model learns from the rankings, PPO runs against it.

use axum::http::StatusCode;
use scraper::{Html, Selector};
use serde_json::json;
use server::commands::model::register_models;
use server::commands::simulate::simulate;
use server::domain::ids::{CheckpointId, ProjectId, RunId, SnapshotId};
use server::domain::snapshot::{Selection, SnapshotKind};
use server::exchange::export::create_snapshot;
use server::store;
use server::store::demonstrations::NewDemonstration;
use server::store::runs::Run;
use server::store::texts::NewText;
use server::worker::claim::Worker;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::best_of_n::assert_best_of_four;
use crate::support::{Client, TestApp, fake};
use crate::tiny::{WORDS, write_model};

/// A project with prompts and demonstrations in the tiny model's words, and the model itself.
struct Place<'app> {
    app: &'app TestApp,
    operator: Client<'app>,
    project_id: ProjectId,
    base: String,
}

impl<'app> Place<'app> {
    async fn new(app: &'app TestApp) -> Self {
        let db = &app.state.db;
        let project_id = fake::project(db, 0, 4, 1, 3600).await;
        let mut connection = db.acquire().await.unwrap();
        let word = |index: usize| WORDS[index % WORDS.len()];
        let mut demonstrations = Vec::new();
        for index in 0..40 {
            let request = format!("say {} {} now", word(index), word(index / 3));
            sqlx::query(
                "INSERT INTO prompts (id, project_id, external_id, body) VALUES ($1, $2, $3, $4)",
            )
            .bind(uuid::Uuid::now_v7())
            .bind(project_id.0)
            .bind(format!("p{index}"))
            .bind(json!(request))
            .execute(&mut *connection)
            .await
            .unwrap();
            demonstrations.push(NewDemonstration {
                external_id: format!("d{index}"),
                messages: json!([
                    {"role": "user", "content": request},
                    {"role": "assistant", "content": format!("{} good", word(index))},
                ]),
                writing: None,
                category: "other".to_owned(),
            });
        }
        store::demonstrations::insert_all(&mut connection, project_id, &demonstrations)
            .await
            .unwrap();
        let texts: Vec<NewText> = (0..20)
            .map(|index| NewText {
                external_id: format!("t{index}"),
                body: format!("count {} {} please", word(index), word(index + 5)),
            })
            .collect();
        store::texts::insert_all(&mut connection, project_id, &texts)
            .await
            .unwrap();
        drop(connection);
        write_model(&app.state.data.models_dir().join("tiny"));
        register_models(db, &app.state.data).await.unwrap();
        let mut place = Self {
            app,
            operator: app.operator().await,
            project_id,
            base: String::new(),
        };
        place.base = place.checkpoint("base").await;
        place
    }

    async fn checkpoint(&self, kind: &str) -> String {
        let mut db = self.app.state.db.acquire().await.unwrap();
        let all = store::checkpoints::list(&mut db).await.unwrap();
        let found = all
            .iter()
            .find(|checkpoint| checkpoint.kind == kind)
            .unwrap();
        found.id.to_string()
    }

    async fn snapshot(&self, kind: SnapshotKind) -> SnapshotId {
        let selection = Selection {
            project_id: self.project_id,
            kind,
            name: "all".to_owned(),
            categories: Vec::new(),
            include_simulated: true,
            reviewed_categories: false,
            include_personal: false,
            labels: server::domain::snapshot::Labels::default(),
            filters: server::domain::snapshot_filters::Filters::default(),
        };
        create_snapshot(&self.app.state.db, &selection, None)
            .await
            .unwrap()
    }

    /// Starts a run by its page.
    async fn start(&self, form: &str) -> RunId {
        let form = format!("name=a+run&base={}&preset=tiny&{form}", self.base);
        let answer = self.operator.post("/runs", &form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        answer
            .location
            .unwrap()
            .trim_start_matches("/runs/")
            .parse()
            .unwrap()
    }

    fn worker(&self) -> Worker {
        Worker {
            db: self.app.state.db.clone(),
            data: (*self.app.state.data).clone(),
            name: "worker".to_owned(),
        }
    }

    /// Starts a run by its page and lets a worker carry it out.
    async fn carry_out(&self, form: &str) -> Run {
        let id = self.start(form).await;
        self.worker()
            .run(&CancellationToken::new(), true)
            .await
            .unwrap();
        self.find(id).await
    }

    async fn find(&self, id: RunId) -> Run {
        let mut db = self.app.state.db.acquire().await.unwrap();
        store::runs::find(&mut db, id).await.unwrap().unwrap()
    }

    async fn page(&self, run: &Run) -> String {
        let page = self.operator.get(&format!("/runs/{}", run.id)).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        page.body
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn from_prompts_to_a_policy(db: PgPool) {
    let app = TestApp::new(db.clone());
    let place = Place::new(&app).await;
    let prompts = place.snapshot(SnapshotKind::Prompts).await;

    let drawn = place
        .carry_out(&format!(
            "kind=generation&snapshot={prompts}&candidates=5&max_new_tokens=8&overlap=2"
        ))
        .await;
    assert_eq!((drawn.status.as_str(), &drawn.error), ("finished", &None));
    assert_named(&place.page(&drawn).await);
    assert_candidates(&db).await;

    let mut connection = db.acquire().await.unwrap();
    let project = store::projects::find(&mut connection, place.project_id)
        .await
        .unwrap()
        .unwrap();
    drop(connection);
    assert_eq!(simulate(&db, &project, 2, 0.0, 1, 1000).await.unwrap(), 80);
    let rankings = place.snapshot(SnapshotKind::Rankings).await;
    let demonstrations = place.snapshot(SnapshotKind::Demonstrations).await;
    let reward = place
        .carry_out(&format!(
            "kind=reward&snapshot={rankings}&demonstrations={demonstrations}"
        ))
        .await;
    assert_eq!((reward.status.as_str(), &reward.error), ("finished", &None));
    let page = place.page(&reward).await;
    assert!(page.contains(&format!("/snapshots/{demonstrations}")));
    assert!(page.contains("scores are shifted so that demonstrations score mean 0"));
    assert_named(&page);
    assert!(page.contains("Gain over length alone"));
    assert_report(&place, &reward, &page).await;

    let judge = place.checkpoint("reward").await;
    assert_fine_tuning_is_judged(&place, demonstrations, &judge).await;
    let other = place
        .carry_out(&format!(
            "kind=reward&snapshot={rankings}&settings=%7B%22seed%22%3A+2%7D"
        ))
        .await;
    assert_eq!((other.status.as_str(), &other.error), ("finished", &None));
    let gold = place.checkpoint("reward").await;
    assert_ne!(gold, judge);
    // Far enough to be seen: 6 iterations at a higher rate.
    let settings = "settings=%7B%22iterations%22%3A+6%2C+%22policy_optimiser%22%3A+%7B%22learning_rate%22%3A+0.004%7D%7D";
    let ppo = place
        .carry_out(&format!(
            "kind=ppo&snapshot={prompts}&reward={judge}&gold={gold}&{settings}"
        ))
        .await;
    assert_eq!((ppo.status.as_str(), &ppo.error), ("finished", &None));
    let page = place.page(&ppo).await;
    let count = |text: &str| page.matches(text).count();
    assert_eq!((count("sample-before"), count("sample-after")), (4, 4));
    assert!(
        count("badge-passed") >= 4 && count("badge-failed") == 0,
        "the checks are shown"
    );
    assert!(
        page.contains("data-metric=\"objective/kl\""),
        "the curves are shown"
    );
    assert_named(&page);
    assert!(!page.contains("ptx/loss"), "no texts were given");
    assert_frontier_and_sources(&page, &ppo);

    let policy = place.checkpoint("policy").await;
    let page = place
        .operator
        .get(&format!("/checkpoints/{policy}"))
        .await
        .body;
    for part in [
        format!("/runs/{}", ppo.id),
        format!("/checkpoints/{}", place.base),
        format!("/checkpoints/{judge}"),
        format!("/checkpoints/{gold}"),
    ] {
        assert!(page.contains(&part), "the lineage names {part}");
    }

    assert_best_of_four(&app, &reward).await;

    let dpo = place
        .carry_out(&format!("kind=dpo&snapshot={rankings}"))
        .await;
    assert_eq!((dpo.status.as_str(), &dpo.error), ("finished", &None));
    assert_eq!(dpo.config["beta"], 0.1);
    let page = place.page(&dpo).await;
    assert_named(&page);
    for part in [
        format!("/snapshots/{rankings}"),
        "data-metric=\"held_out/margin\"".to_owned(),
        "Held-out margin".to_owned(),
        "log-ratio is 0 before the first step".to_owned(),
        "DPO paper, equation 7".to_owned(),
    ] {
        assert!(page.contains(&part), "the page shows {part}");
    }
    assert!(!page.contains("badge-failed"), "{page}");
    assert!(!page.contains("not known to this version"), "{page}");
    let mut connection = db.acquire().await.unwrap();
    let made = store::checkpoints::find_of_run(&mut connection, dpo.id).await;
    let made = made.unwrap().unwrap();
    let made = store::checkpoints::find(&mut connection, made).await;
    assert_eq!(made.unwrap().unwrap().kind, "policy");
}

/// SFT takes texts and a reward model by its page, which names them, and keeps the epoch that the
/// reward model likes best.
async fn assert_fine_tuning_is_judged(place: &Place<'_>, demonstrations: SnapshotId, judge: &str) {
    let texts = place.snapshot(SnapshotKind::Texts).await;
    let settings =
        "settings=%7B%22keep%22%3A+%22best_reward%22%2C+%22pretraining_share%22%3A+0.5%7D";
    let form = format!("kind=sft&snapshot={demonstrations}&{settings}");
    let typed = format!("name=x&base={}&preset=tiny&{form}", place.base);
    let refused = place.operator.post("/runs", &typed).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        refused
            .body
            .contains("Reward model: choose one: the setting keep is best_reward"),
        "{}",
        refused.body
    );
    let run = place
        .carry_out(&format!("{form}&texts={texts}&reward={judge}"))
        .await;
    assert_eq!((run.status.as_str(), &run.error), ("finished", &None));
    assert!(run.summary["held_out_reward"].is_f64(), "{:#}", run.summary);
    let share = run.summary["pretraining_share"].as_f64().unwrap();
    assert!((0.3..0.7).contains(&share), "{share}");
    let made = format!("/checkpoints/{}", place.checkpoint("sft").await);
    let lineage = place.operator.get(&made).await.body;
    for page in [place.page(&run).await, lineage] {
        assert!(page.contains(&format!("/snapshots/{texts}")), "{page}");
        assert!(page.contains(&format!("/checkpoints/{judge}")), "{page}");
    }
}

/// A finished reward run's page shows the report in pictures and numbers, in both languages, and
/// names labelers; what leaves the house has their ids.
async fn assert_report(place: &Place<'_>, run: &Run, page: &str) {
    let path = format!("/runs/{}/files/report.json", run.id);
    let report = place.operator.get(&path).await.json();
    let html = Html::parse_document(page);
    let find = |css: &str| -> Vec<String> {
        let selector = Selector::parse(css).unwrap();
        let found = html.select(&selector);
        found.map(|one| one.text().collect()).collect()
    };
    let share = |value: &serde_json::Value| format!("{:.3}", value["value"].as_f64().unwrap());

    let n_bins = report["calibration"]["bins"].as_array().unwrap().len();
    assert!(n_bins > 1);
    assert_eq!(find("#report-reliability svg circle").len(), n_bins);
    assert_eq!(find("#report-bins tbody tr").len(), n_bins);
    let ece = report["calibration"]["raw"]["ece"].as_f64().unwrap();
    assert!(find("#report-fits tbody tr")[0].contains(&format!("{ece:.4}")));

    // Each prompt was ranked by both simulated labelers.
    let all = find("#report-all tbody tr");
    assert!(all[0].contains(&share(&report["accuracy"])), "{all:?}");
    assert!(all[1].contains(&share(&report["length_only"])), "{all:?}");
    assert!(all[2].contains("Agreement of 2 labelers with each other"));
    assert!(
        all[2].contains(&share(&report["agreement"]["accuracy"])),
        "{all:?}"
    );
    let slices = &report["slices"]["labeler"];
    let labelers = find("#report-labeler tbody tr");
    assert_eq!(labelers.len(), 2);
    let mut db = place.app.state.db.acquire().await.unwrap();
    let made = store::checkpoints::find_of_run(&mut db, run.id).await;
    let made = store::checkpoints::find(&mut db, made.unwrap().unwrap()).await;
    let folder = std::path::PathBuf::from(made.unwrap().unwrap().path);
    drop(db);
    let card = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for (row, slice) in labelers.iter().zip(slices.as_array().unwrap()) {
        let id = slice["name"].as_str().unwrap();
        assert!(!page.contains(id) && card.contains(id), "{id}");
        assert!(
            row.contains("imulated") && !card.contains(row.as_str()),
            "{row}"
        );
        assert!(row.contains(&share(&slice["accuracy"])), "{row}");
    }
    assert!(card.contains("## Accuracy by labeler"), "{card}");
    // A bar for each row, with the marks of length alone and agreement.
    assert_eq!(find("#report-labeler svg .share-bar").len(), 2);
    assert_eq!(find("#report-labeler svg .share-baseline").len(), 2);
    assert_eq!(find("#report-labeler svg .share-ceiling").len(), 2);
    assert_eq!(find("#report-correlations tbody tr").len(), 2);

    let path = format!("/runs/{}", run.id);
    let request = place.operator.request("GET", &path);
    let request = request.header("accept-language", "zh");
    let request = request.body(axum::body::Body::empty()).unwrap();
    let chinese = place.operator.send(request).await.body;
    assert!(chinese.contains("模型报告"), "{chinese}");
    assert!(!chinese.contains("report-by-"), "{chinese}");
}

/// A finished PPO run's page draws gain against distance for both judges, by points of two shapes
/// and in numbers, and says where each setting comes from.
fn assert_frontier_and_sources(page: &str, run: &Run) {
    let html = Html::parse_document(page);
    let find = |css: &str| -> Vec<String> {
        let selector = Selector::parse(css).unwrap();
        let found = html.select(&selector);
        found.map(|one| one.text().collect()).collect()
    };
    let iterations = run.config["iterations"].as_u64().unwrap() as usize;
    let picture = "#run-frontier > svg";
    assert_eq!(find(&format!("{picture} circle")).len(), iterations);
    assert_eq!(find(&format!("{picture} rect")).len(), iterations);
    let numbers = find("#run-frontier-numbers tbody tr");
    assert_eq!(numbers.len(), iterations);
    assert!(numbers[0].ends_with("+0.000+0.000"), "{}", numbers[0]);
    let legend = find("#run-frontier .legend li");
    assert!(legend[0].contains("trained against") && legend[1].contains("Second opinion"));
    let judges = find("#run-judges tbody tr");
    assert_eq!(judges.len(), 2);
    assert!(judges[0].contains("The reward model") && judges[1].contains("Second opinion"));
    assert!(run.summary["gold_after"].is_f64(), "{}", run.summary);

    let settings = find("#run-settings tbody tr");
    let row = |name: &str| {
        let found = settings
            .iter()
            .find(|row| row.trim_start().starts_with(name));
        found.unwrap().clone()
    };
    assert!(row("gamma").contains("InstructGPT C.4"), "{}", row("gamma"));
    assert!(row("stop.patience").contains("ours"));
    assert!(row("iterations").contains("chosen for this run"));
    assert!(
        settings
            .iter()
            .all(|row| !row.contains("not known to this version"))
    );
    assert!(page.contains("config_sources.json"));
}

/// Every figure of a run's page is called something, besides its key.
fn assert_named(page: &str) {
    assert!(page.contains("<code class=\"key\">"), "{page}");
    assert!(!page.contains("<b><code>"), "{page}");
}

/// Every prompt has a task with 4 to 5 different candidates, each with how it was drawn.
async fn assert_candidates(db: &PgPool) {
    let rows: Vec<(i64, i64, i64, i16)> = sqlx::query_as(
        "SELECT count(*), count(DISTINCT btrim(c.text)), count(DISTINCT c.sampling->>'stream'), max(t.overlap)
         FROM tasks t JOIN candidates k ON k.task_id = t.id JOIN completions c ON c.id = k.completion_id
         GROUP BY t.id",
    )
    .fetch_all(db)
    .await
    .unwrap();
    assert_eq!(rows.len(), 40);
    for (n, texts, streams, overlap) in rows {
        assert!((4..=5).contains(&n));
        assert_eq!((texts, streams, overlap), (n, n, 2));
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_same_run_twice_gives_the_same_checkpoint_and_its_files(db: PgPool) {
    let app = TestApp::new(db.clone());
    let place = Place::new(&app).await;
    let snapshot = place.snapshot(SnapshotKind::Demonstrations).await;
    let settings = "settings=%7B%22epochs%22%3A+1%7D";
    let form = format!("kind=sft&snapshot={snapshot}&{settings}");
    let (first, second) = (place.carry_out(&form).await, place.carry_out(&form).await);
    for run in [&first, &second] {
        assert_eq!((run.status.as_str(), &run.error), ("finished", &None));
        assert_eq!(run.config["epochs"], 1);
    }
    let mut connection = db.acquire().await.unwrap();
    let made = store::checkpoints::list(&mut connection).await.unwrap();
    let hashes: Vec<&str> = made
        .iter()
        .filter(|checkpoint| checkpoint.kind == "sft")
        .map(|checkpoint| checkpoint.sha256.as_str())
        .collect();
    assert_eq!(hashes.len(), 2);
    assert_eq!(hashes[0], hashes[1]);
    assert_named(&place.page(&first).await);

    let events = store::run_events::list_after(&mut connection, first.id, 0, 10_000)
        .await
        .unwrap();
    drop(connection);
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=events.len() as i64).collect::<Vec<_>>());
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!((kinds[0], kinds[1]), ("status", "status"));
    assert_eq!(kinds[kinds.len() - 2..], ["checkpoint", "status"]);
    for kind in ["phase", "metrics", "log", "check"] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    let path = format!("/runs/{}/files", first.id);
    let config = place.operator.get(&format!("{path}/config.json")).await;
    assert_eq!(config.json()["epochs"], 1);
    let metrics = place.operator.get(&format!("{path}/metrics.jsonl")).await;
    assert!(metrics.body.lines().count() > 3);
    assert!(
        metrics.headers["content-disposition"]
            .to_str()
            .unwrap()
            .contains("attachment")
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_running_run_stops_when_asked(db: PgPool) {
    let app = TestApp::new(db.clone());
    let place = Place::new(&app).await;
    let snapshot = place.snapshot(SnapshotKind::Demonstrations).await;
    let settings = "settings=%7B%22epochs%22%3A+1000%7D";
    let id = place
        .start(&format!("kind=sft&snapshot={snapshot}&{settings}"))
        .await;
    let mut follower = app.state.run_feed.follow(id);
    let worker = place.worker();
    let working = tokio::spawn(async move { worker.run(&CancellationToken::new(), true).await });
    while place.find(id).await.phase != "training" {
        assert!(
            !place.find(id).await.is_over(),
            "{:?}",
            place.find(id).await.error
        );
        follower.wait().await;
    }
    let answer = place.operator.post(&format!("/runs/{id}/cancel"), "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    working.await.unwrap().unwrap();
    let run = place.find(id).await;
    assert_eq!((run.status.as_str(), run.error), ("cancelled", None));
    let mut connection = db.acquire().await.unwrap();
    assert_eq!(
        store::checkpoints::find_of_run(&mut connection, id)
            .await
            .unwrap(),
        None
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_run_that_was_stopped_goes_on_and_makes_what_it_would_have_made(db: PgPool) {
    let app = TestApp::new(db.clone());
    let place = Place::new(&app).await;
    let snapshot = place.snapshot(SnapshotKind::Demonstrations).await;
    let settings = "settings=%7B%22epochs%22%3A+40%7D";
    let form = format!("kind=sft&snapshot={snapshot}&{settings}");
    let straight = place.carry_out(&form).await;
    let refused = place
        .operator
        .post(&format!("/runs/{}/resume", straight.id), "")
        .await;
    assert_eq!(refused.status, StatusCode::CONFLICT);

    let id = place.start(&form).await;
    let mut follower = app.state.run_feed.follow(id);
    let worker = place.worker();
    let working = tokio::spawn(async move { worker.run(&CancellationToken::new(), true).await });
    while place.find(id).await.phase != "training" {
        follower.wait().await;
    }
    place.operator.post(&format!("/runs/{id}/cancel"), "").await;
    working.await.unwrap().unwrap();
    assert_eq!(place.find(id).await.status, "cancelled");
    let page = place.operator.get(&format!("/runs/{id}")).await.body;
    assert!(page.contains(&format!("/runs/{id}/resume")), "{page}");

    let again = place.operator.post(&format!("/runs/{id}/resume"), "").await;
    assert_eq!(again.status, StatusCode::SEE_OTHER, "{}", again.body);
    let worker = place.worker();
    worker.run(&CancellationToken::new(), true).await.unwrap();
    let run = place.find(id).await;
    assert_eq!((run.status.as_str(), &run.error), ("finished", &None));
    let mut connection = db.acquire().await.unwrap();
    let events = store::run_events::list_after(&mut connection, id, 0, 10_000)
        .await
        .unwrap();
    let went_on = |event: &store::run_events::RunEvent| {
        let line = event.data["message"].as_str();
        line.is_some_and(|line| line.starts_with("going on after step"))
    };
    assert!(events.iter().any(went_on), "it started anew");
    let made = store::checkpoints::list(&mut connection).await.unwrap();
    let hashes: Vec<&str> = made
        .iter()
        .filter(|checkpoint| checkpoint.kind == "sft")
        .map(|checkpoint| checkpoint.sha256.as_str())
        .collect();
    assert_eq!(hashes.len(), 2);
    assert_eq!(hashes[0], hashes[1]);
}

/// Postgres was away when the run came to its end, or its worker was killed then: the folder has a
/// whole checkpoint, and the database knows of none.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_run_that_trained_to_its_end_unheard_is_finished_without_training_again(db: PgPool) {
    let app = TestApp::new(db.clone());
    let place = Place::new(&app).await;
    let snapshot = place.snapshot(SnapshotKind::Demonstrations).await;
    let run = place
        .carry_out(&format!("kind=sft&snapshot={snapshot}"))
        .await;
    assert_eq!((run.status.as_str(), &run.error), ("finished", &None));
    let sha256 = find_sha256(&db, &run).await.unwrap();

    let last = forget_the_end(&db, &run).await;
    assert_eq!(find_sha256(&db, &run).await, None);
    go_on(&place, &run).await;
    let again = place.find(run.id).await;
    assert_eq!((again.status.as_str(), &again.error), ("finished", &None));
    assert_eq!(find_sha256(&db, &run).await, Some(sha256));
    for figure in ["held_out_loss", "n_train"] {
        assert!(again.summary[figure].is_f64(), "no {figure}");
        assert_eq!(again.summary[figure], run.summary[figure]);
    }
    let mut connection = db.acquire().await.unwrap();
    let events = store::run_events::list_after(&mut connection, run.id, last, 10_000)
        .await
        .unwrap();
    drop(connection);
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["status", "status", "log", "checkpoint", "status"]);

    // A folder that holds what another run made is not taken for this run's.
    forget_the_end(&db, &run).await;
    sqlx::query("UPDATE runs SET config = jsonb_set(config, '{seed}', '77')")
        .execute(&db)
        .await
        .unwrap();
    go_on(&place, &run).await;
    let other = place.find(run.id).await;
    assert_eq!(other.status, "failed");
    let error = other.error.unwrap();
    assert!(
        error.contains("other settings, data or models than this run's"),
        "{error}"
    );
    assert_eq!(find_sha256(&db, &run).await, None);
}

/// The SHA-256 of the checkpoint that the database knows of the run.
async fn find_sha256(db: &PgPool, run: &Run) -> Option<String> {
    sqlx::query_scalar("SELECT sha256 FROM checkpoints WHERE run_id = $1")
        .bind(run.id.0)
        .fetch_optional(db)
        .await
        .unwrap()
}

/// Leaves the run as if its end had never been written down; returns its last event's number.
async fn forget_the_end(db: &PgPool, run: &Run) -> i64 {
    let forgotten = [
        "DELETE FROM checkpoints WHERE run_id = $1",
        "UPDATE runs SET status = 'failed', error = 'the worker stopped reporting', summary = '{}' WHERE id = $1",
    ];
    for statement in forgotten {
        sqlx::query(statement)
            .bind(run.id.0)
            .execute(db)
            .await
            .unwrap();
    }
    let mut connection = db.acquire().await.unwrap();
    store::run_events::last_seq(&mut connection, run.id)
        .await
        .unwrap()
}

/// Presses "go on" on the run's page and lets a worker do it.
async fn go_on(place: &Place<'_>, run: &Run) {
    let path = format!("/runs/{}/resume", run.id);
    let answer = place.operator.post(&path, "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let worker = place.worker();
    worker.run(&CancellationToken::new(), true).await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_wrong_form_names_every_field_and_queues_nothing(db: PgPool) {
    let app = TestApp::new(db.clone());
    let place = Place::new(&app).await;
    let prompts = place.snapshot(SnapshotKind::Prompts).await;
    let base = &place.base;
    let wrong = [
        (
            "kind=ppo&preset=tiny".to_owned(),
            vec!["Name:", "Data:", "Starts from:", "Reward model:"],
        ),
        (
            format!("kind=ppo&name=x&preset=tiny&snapshot={prompts}&base={base}&reward={base}"),
            vec!["not a reward model"],
        ),
        (
            format!("kind=ppo&name=x&preset=tiny&snapshot={prompts}&base={base}&gold={base}"),
            vec!["Second opinion: this is not a reward model"],
        ),
        (
            format!("kind=sft&name=x&preset=tiny&base={base}&texts={prompts}&reward={base}"),
            vec![
                "Texts: choose a snapshot of texts",
                "Reward model: this is not a reward model",
            ],
        ),
        (
            format!("kind=sft&name=x&preset=lm-human-preferences&base={base}"),
            vec!["preset lm-human-preferences has no sft"],
        ),
        (
            format!("kind=sft&name=x&preset=tiny&snapshot={prompts}&base={base}"),
            vec!["a snapshot of demonstrations"],
        ),
        (
            format!(
                "kind=reward&name=x&preset=tiny&base={base}&snapshot={prompts}&demonstrations={prompts}"
            ),
            vec![
                "Data:",
                "Demonstrations: choose a snapshot of demonstrations",
            ],
        ),
        (
            format!("kind=dpo&name=x&preset=tiny&snapshot={prompts}&base={base}"),
            vec!["a snapshot of rankings"],
        ),
        (
            format!("kind=generation&name=x&snapshot={prompts}&base={base}&candidates=3"),
            vec!["Settings: setting candidates"],
        ),
        (
            format!("kind=generation&name=x&snapshot={prompts}&base={base}&seed=one"),
            vec!["Seed: this is not a number"],
        ),
        ("kind=sft&name=x&preset=huge".to_owned(), vec!["Preset:"]),
        (
            "kind=sft&name=x&preset=tiny&settings=%7B%22epoch%22%3A1%7D".to_owned(),
            vec!["Settings:", "epoch"],
        ),
        (
            "kind=sft&name=x&preset=tiny&settings=seven".to_owned(),
            vec!["this is not JSON"],
        ),
    ];
    for (form, words) in wrong {
        let answer = place.operator.post("/runs", &form).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{form}");
        for word in words {
            assert!(answer.body.contains(word), "{form}: no {word:?}");
        }
    }
    assert_the_judge_is_no_second_opinion(&place, prompts).await;
    let mut connection = db.acquire().await.unwrap();
    assert!(
        store::runs::list(&mut connection, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

/// The same model under another name and in another folder is no second opinion either.
async fn assert_the_judge_is_no_second_opinion(place: &Place<'_>, prompts: SnapshotId) {
    let mut models = Vec::new();
    for path in ["/first", "/second"] {
        let id = CheckpointId::new();
        sqlx::query("INSERT INTO checkpoints (id, kind, name, path, architecture, n_parameters, sha256) VALUES ($1, 'reward', 'judge', $2, 'LlamaForSequenceClassification', 1, 'ab')")
            .bind(id.0)
            .bind(path)
            .execute(&place.app.state.db)
            .await
            .unwrap();
        models.push(id);
    }
    let (base, reward) = (&place.base, models[0]);
    for gold in models {
        let form = format!(
            "kind=ppo&name=x&preset=tiny&snapshot={prompts}&base={base}&reward={reward}&gold={gold}"
        );
        for (language, said) in [
            ("en", "Second opinion: this is the reward model itself"),
            ("zh", "第二评价：这正是奖励模型本身"),
        ] {
            let request = place.operator.request("POST", "/runs");
            let request = request
                .header("accept-language", language)
                .header("content-type", "application/x-www-form-urlencoded");
            let request = request.body(form.clone().into()).unwrap();
            let answer = place.operator.send(request).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{form}");
            assert!(answer.body.contains(said), "{}", answer.body);
        }
    }
}

/// As on the page: a copy of the reward model's weights in another folder is the same judge.
#[test]
fn the_command_line_takes_no_reward_model_for_its_own_second_opinion() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_model(&path("judge"));
    write_model(&path("copy"));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_plackett"));
    command.args(["train", "ppo", "--preset", "tiny"]);
    for (flag, name) in [
        ("--data", "prompts.jsonl"),
        ("--base", "judge"),
        ("--reward", "judge"),
        ("--gold", "copy"),
        ("--out", "out"),
    ] {
        command.arg(flag).arg(path(name));
    }
    let answer = command.output().unwrap();
    let said = String::from_utf8(answer.stderr).unwrap();
    assert!(!answer.status.success());
    assert!(said.contains("--gold is the model of --reward"), "{said}");
    assert!(!path("out").exists());
}
