//! The form that starts a run, and the command that does, refuse what cannot be trained.

use axum::http::StatusCode;
use server::domain::ids::{CheckpointId, SnapshotId};
use server::domain::snapshot::SnapshotKind;
use server::store;
use sqlx::PgPool;

use crate::support::TestApp;
use crate::tiny::write_model;
use crate::training::Place;

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
