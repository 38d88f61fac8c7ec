//! The whole loop on a tiny model, by page and worker: completions are drawn and ranked, a reward
//! model learns from the rankings, PPO runs against it.

use axum::http::StatusCode;
use scraper::{Html, Selector};
use serde_json::json;
use server::commands::model::register_models;
use server::commands::simulate::simulate;
use server::domain::ids::{ProjectId, RunId, SnapshotId};
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
pub(crate) struct Place<'app> {
    pub(crate) app: &'app TestApp,
    pub(crate) operator: Client<'app>,
    project_id: ProjectId,
    pub(crate) base: String,
}

impl<'app> Place<'app> {
    pub(crate) async fn new(app: &'app TestApp) -> Self {
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

    pub(crate) async fn snapshot(&self, kind: SnapshotKind) -> SnapshotId {
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
    pub(crate) async fn start(&self, form: &str) -> RunId {
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

    pub(crate) fn worker(&self) -> Worker {
        Worker {
            db: self.app.state.db.clone(),
            data: (*self.app.state.data).clone(),
            name: "worker".to_owned(),
        }
    }

    /// Starts a run by its page and lets a worker carry it out.
    pub(crate) async fn carry_out(&self, form: &str) -> Run {
        let id = self.start(form).await;
        self.worker()
            .run(&CancellationToken::new(), true)
            .await
            .unwrap();
        self.find(id).await
    }

    pub(crate) async fn find(&self, id: RunId) -> Run {
        let mut db = self.app.state.db.acquire().await.unwrap();
        store::runs::find(&mut db, id).await.unwrap().unwrap()
    }

    pub(crate) async fn page(&self, run: &Run) -> String {
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
pub(crate) fn assert_named(page: &str) {
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
