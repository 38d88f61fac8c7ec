//! A whole small world: a project in which everything has happened that a page can show, said in texts that a
//! test chooses, ordinary or hostile.

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::domain::form::Form;
use server::domain::ids::{AccountId, AssignmentId, ProjectId, RunId, ScreeningId, TaskId};
use server::domain::role::Role;
use server::domain::snapshot::{Selection, SnapshotKind};
use server::domain::task::TaskKind;
use server::exchange::export::create_snapshot;
use server::store;
use server::store::runs::Ending;
use server::worker::exports::build_next;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::sayings::{Texts, few_shot, own, ranking, review, turns};
use super::{Client, TestApp, encode, fake};
use crate::runs::{finish, queue, record, worker};
use crate::{gold, screening};

/// What there is to look at, beside the lists.
pub(crate) struct World {
    pub(crate) project: ProjectId,
    /// Of each group of texts.
    pub(crate) groups: Vec<Group>,
    /// Lena's open assignments: rank, compare, demonstrate (three ways), review.
    pub(crate) open: Vec<String>,
    pub(crate) gold: TaskId,
    /// Of somebody who has been invited and of somebody who is done.
    pub(crate) screenings: [ScreeningId; 2],
    pub(crate) labeler: AccountId,
    pub(crate) snapshot: Uuid,
    pub(crate) export: Uuid,
    pub(crate) run: RunId,
    pub(crate) checkpoint: Uuid,
    /// Where Olga can sign in.
    pub(crate) link: String,
}

/// A task of each kind over the same texts, and Lena's submission of each.
pub(crate) struct Group {
    pub(crate) tasks: Vec<TaskId>,
    pub(crate) pages: Vec<String>,
}

/// Makes the world. Lena and Bob label, Alice is an admin, Olga an operator, Yan and Zoe are candidates.
/// `groups` are the texts of the tasks; `texts` is everything else that anybody says.
pub(crate) async fn build(
    db: &PgPool,
    app: &TestApp,
    groups: &[Vec<String>],
    texts: &Texts,
) -> World {
    let run = queue(db, 1).await[0];
    let (project,): (Uuid,) = sqlx::query_as("SELECT id FROM projects WHERE slug = 'study'")
        .fetch_one(db)
        .await
        .unwrap();
    let project = ProjectId(project);
    for statement in [
        "UPDATE projects SET overlap = 2, lease_seconds = 36000, least_seconds = 30",
        "UPDATE tasks SET closed_at = now()",
    ] {
        sqlx::query(statement).execute(db).await.unwrap();
    }
    let alice = app.client("alice", &[Role::Admin]).await;
    let olga = app.client("olga", &[Role::Operator]).await;
    write_rules(db, project, texts).await;
    let lena = app.program("lena", &[Role::Labeler]).await;
    let bob = app.program("bob", &[Role::Labeler]).await;

    let mut made = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        let name = format!("group-{number}");
        let group = work_on_group(db, project, &name, group, [&lena, &bob], texts).await;
        ask(db, &lena, &alice, &group, texts).await;
        made.push(group);
    }
    let first = made[0].tasks[0];
    decide(&alice, first, texts).await;
    let screenings = screen(db, app, &alice, first, project, texts).await;
    let open = open_tasks(db, &lena, project, texts).await;
    let gold = gold::make_gold(&alice, made[0].tasks[1], "rank-1=1&rank-2=2").await;
    gold::set_shares(db, 0.5, 0.0).await;
    let cleo = app.program("cleo", &[Role::Labeler]).await;
    consent(db).await;
    let who = cleo.account_id.unwrap();
    let (id, _) = gold::lease(db, project, who, "gold").await.unwrap();
    submit(&cleo, id, None, &ranking(texts, 2, false)).await;
    gold::set_shares(db, 0.0, 0.0).await;
    let (snapshot, export) = export(db, app, &alice, project, &texts.name(100)).await;
    let checkpoint = train(db, run, texts).await;
    let member =
        "INSERT INTO members (project_id, account_id, languages) VALUES ($1, $2, '{en,zh}')";
    sqlx::query(member)
        .bind(project.0)
        .bind(lena.account_id.unwrap().0)
        .execute(db)
        .await
        .unwrap();
    let mut connection = db.acquire().await.unwrap();
    let link = store::sign_in_links::create(&mut connection, olga.account_id.unwrap(), None, 1)
        .await
        .unwrap();
    World {
        link: format!("/sign-in/{}", link.reveal()),
        project,
        groups: made,
        open,
        gold,
        screenings,
        labeler: lena.account_id.unwrap(),
        snapshot,
        export,
        run,
        checkpoint,
    }
}

/// Names of people, the project, runs and checkpoints become texts. Done last: the pages show them,
/// and nothing is found by them.
pub(crate) async fn rename(db: &PgPool, texts: &Texts) {
    let mut transaction = db.begin().await.unwrap();
    for (table, column, most) in [
        ("accounts", "name", 100),
        ("projects", "name", 100),
        ("runs", "name", 100),
        ("checkpoints", "name", 100),
    ] {
        let ids: Vec<Uuid> =
            sqlx::query_scalar(AssertSqlSafe(format!("SELECT id FROM {table} ORDER BY id")))
                .fetch_all(&mut *transaction)
                .await
                .unwrap();
        for id in ids {
            sqlx::query(AssertSqlSafe(format!(
                "UPDATE {table} SET {column} = $1 WHERE id = $2"
            )))
            .bind(texts.name(most))
            .bind(id)
            .execute(&mut *transaction)
            .await
            .unwrap();
        }
    }
    transaction.commit().await.unwrap();
}

/// Guidelines and consent in two versions, and a form.
async fn write_rules(db: &PgPool, project: ProjectId, texts: &Texts) {
    let mut connection = db.acquire().await.unwrap();
    for _ in 0..2 {
        let text = texts.several(6, 2_000).join("\n\n");
        let rules = json!({"en": text, "zh": text});
        store::projects::insert_guidelines(&mut connection, project, &rules, None)
            .await
            .unwrap();
        sqlx::query(
            "INSERT INTO consents (project_id, version, markdown)
             SELECT $1, coalesce(max(version), 0) + 1, $2 FROM consents WHERE project_id = $1",
        )
        .bind(project.0)
        .bind(&rules)
        .execute(&mut *connection)
        .await
        .unwrap();
    }
    let mut form = Form::default();
    let say = |label: &mut server::domain::form::Texts| {
        if !texts.in_form {
            return;
        }
        let text = texts.name(200);
        *label = [("en".to_owned(), text.clone()), ("zh".to_owned(), text)].into();
    };
    say(&mut form.overall.label);
    say(&mut form.overall.low);
    for flag in form.flags.iter_mut().chain(&mut form.prompt_flags) {
        say(&mut flag.label);
        say(&mut flag.help);
    }
    form.skip_reasons
        .iter_mut()
        .for_each(|one| say(&mut one.label));
    form.pii_kinds
        .iter_mut()
        .for_each(|one| say(&mut one.label));
    let form = serde_json::to_value(form).unwrap();
    store::projects::insert_form(&mut connection, project, &form)
        .await
        .unwrap();
    drop(connection);
    sqlx::query(
        "INSERT INTO acknowledgements (account_id, project_id, subject, version)
         SELECT a.id, c.project_id, 'consent', c.version FROM accounts a CROSS JOIN consents c",
    )
    .execute(db)
    .await
    .unwrap();
}

/// Everybody who is here now has agreed to everything.
async fn consent(db: &PgPool) {
    fake::acknowledge(db).await;
    sqlx::query(
        "INSERT INTO acknowledgements (account_id, project_id, subject, version)
         SELECT a.id, c.project_id, 'consent', c.version FROM accounts a CROSS JOIN consents c
         ON CONFLICT DO NOTHING",
    )
    .execute(db)
    .await
    .unwrap();
}

async fn add_prompt(db: &PgPool, project: ProjectId, name: &str, body: &Value) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO prompts (id, project_id, external_id, body, language, category) VALUES ($1, $2, $3, $4, 'en', 'chat')",
    )
    .bind(id)
    .bind(project.0)
    .bind(name)
    .bind(body)
    .execute(db)
    .await
    .unwrap();
    id
}

/// A ranking task over texts.
async fn add_ranking(
    db: &PgPool,
    project: ProjectId,
    kind: TaskKind,
    prompt: Uuid,
    texts: &[String],
    said: &Texts,
) -> TaskId {
    let mut transaction = db.begin().await.unwrap();
    let mut completions = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let id = server::domain::ids::CompletionId::new();
        sqlx::query("INSERT INTO completions (id, prompt_id, text, model) VALUES ($1, $2, $3, $4)")
            .bind(id.0)
            .bind(prompt)
            .bind(text)
            .bind(&said.models[index % 3])
            .execute(&mut *transaction)
            .await
            .unwrap();
        completions.push(id);
    }
    let prompt = server::domain::ids::PromptId(prompt);
    let id = store::tasks::insert(&mut transaction, project, prompt, kind, None, &completions)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    id
}

/// A task of writing or reviewing for so many labelers.
async fn add_task(
    db: &PgPool,
    project: ProjectId,
    kind: TaskKind,
    prompt: Option<Uuid>,
    brief: Option<Value>,
    overlap: i16,
) -> TaskId {
    let id = TaskId::new();
    sqlx::query(
        "INSERT INTO tasks (id, project_id, prompt_id, kind, overlap, brief) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id.0)
    .bind(project.0)
    .bind(prompt)
    .bind(kind.as_str())
    .bind(overlap)
    .bind(brief)
    .execute(db)
    .await
    .unwrap();
    id
}

/// Takes the task that is next, and says where its page is.
async fn take(by: &Client<'_>, project: ProjectId) -> (AssignmentId, String) {
    let path = format!("/api/v1/projects/{project}/assignments");
    let lease = by.send_json("POST", &path, &[], &json!({})).await;
    assert_eq!(lease.status, StatusCode::CREATED, "{}", lease.body);
    let lease = lease.json();
    let id = lease["id"].as_str().unwrap().parse().unwrap();
    let word = match lease["kind"].as_str().unwrap() {
        "compare" => "rank",
        other => other,
    };
    (id, format!("/{word}/{id}"))
}

async fn submit(by: &Client<'_>, id: AssignmentId, replaces: Option<i32>, said: &Value) {
    let query = replaces.map_or_else(String::new, |version| format!("?replaces={version}"));
    let path = format!("/api/v1/assignments/{id}/submission{query}");
    let key = format!("k{}", replaces.unwrap_or_default());
    let headers = [("idempotency-key", key.as_str())];
    let answer = by.send_json("POST", &path, &headers, said).await;
    assert!(answer.status.is_success(), "{said}: {}", answer.body);
}

/// Lets both labelers do a task of each kind over these texts.
async fn work_on_group(
    db: &PgPool,
    project: ProjectId,
    name: &str,
    group: &[String],
    labelers: [&Client<'_>; 2],
    texts: &Texts,
) -> Group {
    consent(db).await;
    let body = turns(group);
    let nine: Vec<String> = group.iter().rev().cycle().take(9).cloned().collect();
    let (mut tasks, mut pages) = (Vec::new(), Vec::new());
    let brief = |kind: &str| Some(json!({"kind": kind, "use_case": texts.next(9_000)}));
    for kind in [
        "rank",
        "compare",
        "answer",
        "few_shot",
        "user_based",
        "review",
    ] {
        let prompt = add_prompt(db, project, &format!("{name}-{kind}"), &body).await;
        let task = match kind {
            "rank" => add_ranking(db, project, TaskKind::Rank, prompt, &nine, texts).await,
            "compare" => {
                add_ranking(db, project, TaskKind::Compare, prompt, &nine[7..], texts).await
            }
            "answer" => add_task(db, project, TaskKind::Demonstrate, Some(prompt), None, 2).await,
            "few_shot" => {
                let brief = Some(json!({"kind": "few_shot"}));
                add_task(db, project, TaskKind::Demonstrate, None, brief, 2).await
            }
            "user_based" => {
                let brief = brief("user_based");
                add_task(db, project, TaskKind::Demonstrate, None, brief, 2).await
            }
            _ => add_task(db, project, TaskKind::Review, Some(prompt), None, 2).await,
        };
        for (index, by) in labelers.into_iter().enumerate() {
            let (id, page) = take(by, project).await;
            let say = || match kind {
                "rank" => ranking(texts, 9, index == 1),
                "compare" => ranking(texts, 2, index == 1),
                "answer" => json!({"response": texts.next(9_000), "note": texts.next(3_000)}),
                "few_shot" => few_shot(texts),
                "user_based" => own(texts),
                _ => review(texts),
            };
            submit(by, id, None, &say()).await;
            if index == 0 {
                submit(by, id, Some(1), &say()).await;
                pages.push(page);
            }
        }
        tasks.push(task);
    }
    Group { tasks, pages }
}

/// Lena asks about her work, and Alice answers, for everybody or for her alone.
async fn ask(db: &PgPool, lena: &Client<'_>, alice: &Client<'_>, group: &Group, texts: &Texts) {
    let mut connection = db.acquire().await.unwrap();
    let (asker, admin) = (lena.account_id.unwrap(), alice.account_id.unwrap());
    for (index, page) in group.pages.iter().enumerate() {
        let id = page.rsplit('/').next().unwrap().parse().unwrap();
        for turn in 0..3 {
            let (text, key) = (texts.next(1_500), Uuid::now_v7().to_string());
            let question = store::questions::ask(&mut connection, id, asker, text, &key)
                .await
                .unwrap();
            if turn == 0 && index > 0 {
                continue;
            }
            let published = (index % 2 == 0).then(|| texts.next(1_500));
            let answer = texts.next(1_500);
            store::questions::answer(&mut connection, question, admin, answer, published)
                .await
                .unwrap();
        }
    }
}

async fn decide(alice: &Client<'_>, task: TaskId, texts: &Texts) {
    let mut fields = vec![
        ("idempotency_key".to_owned(), "d".to_owned()),
        ("note".to_owned(), texts.next(3_000).to_owned()),
    ];
    fields.extend((1..=9).map(|number| (format!("rank-{number}"), number.to_string())));
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let answer = alice
        .post(&format!("/adjudication/{task}"), &encode(&fields))
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
}

/// Yan is invited; Zoe has done what was asked of her, and waits for grades.
async fn screen(
    db: &PgPool,
    app: &TestApp,
    alice: &Client<'_>,
    ranked: TaskId,
    project: ProjectId,
    texts: &Texts,
) -> [ScreeningId; 2] {
    let fields = "rank-1=1&rank-2=2&flag-1-hallucination=yes";
    screening::make_screening_task(alice, ranked, fields).await;
    let several: Vec<String> = texts
        .several(5, 9_000)
        .into_iter()
        .map(str::to_owned)
        .collect();
    add_prompt(db, project, "written", &turns(&several)).await;
    let added = alice
        .post("/screening/demonstrations", "project=study&prompt=written")
        .await;
    assert_eq!(added.status, StatusCode::SEE_OTHER, "{}", added.body);
    let (zoe, done) = screening::invite(app, alice, "zoe").await;
    let (_, invited) = screening::invite(app, alice, "yan").await;
    let words = texts.next(900);
    let form = encode(&[("words", words), ("topics", "religion"), ("read", "true")]);
    let begun = zoe.post(&format!("/screening/{done}/start"), &form).await;
    assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.body);
    let mut next = Some(screening::assignment_of(&begun.location.unwrap()));
    while let Some(id) = next {
        let kind: String = sqlx::query_scalar(
            "SELECT t.kind FROM tasks t JOIN assignments a ON a.task_id = t.id WHERE a.id = $1",
        )
        .bind(id.0)
        .fetch_one(db)
        .await
        .unwrap();
        match kind.as_str() {
            "rank" => gold::submit(db, &zoe, id, &[1, 2, 3, 4, 5, 6, 7, 8, 9], json!({})).await,
            _ => submit(&zoe, id, None, &json!({"response": texts.next(9_000)})).await,
        }
        next = screening::next(&zoe, done).await;
    }
    assert_eq!(screening::status(db, done).await, "waiting");
    [invited, done]
}

/// Tasks of every kind on which Lena is at work, with a draft of each kind of text.
async fn open_tasks(
    db: &PgPool,
    lena: &Client<'_>,
    project: ProjectId,
    texts: &Texts,
) -> Vec<String> {
    consent(db).await;
    let mut pages = Vec::new();
    for number in 0..6 {
        let body = json!(texts.next(9_000));
        let prompt = add_prompt(db, project, &format!("open-{number}"), &body).await;
        let answers: Vec<String> = texts
            .several(4, 9_000)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let kind = TaskKind::Demonstrate;
        match number {
            0 => add_ranking(db, project, TaskKind::Rank, prompt, &answers, texts).await,
            1 => add_ranking(db, project, TaskKind::Compare, prompt, &answers[..2], texts).await,
            2 => add_task(db, project, kind, Some(prompt), None, 1).await,
            3 => {
                add_task(
                    db,
                    project,
                    kind,
                    None,
                    Some(json!({"kind": "few_shot"})),
                    1,
                )
                .await
            }
            4 => add_task(db, project, kind, None, Some(json!({"kind": "plain"})), 1).await,
            _ => add_task(db, project, TaskKind::Review, Some(prompt), None, 1).await,
        };
        pages.push(take(lena, project).await.1);
    }
    // One more of each, for the list of tasks and for Bob.
    for kind in [TaskKind::Demonstrate, TaskKind::Review] {
        let prompt = add_prompt(
            db,
            project,
            &format!("free-{kind}"),
            &json!(texts.next(900)),
        )
        .await;
        add_task(db, project, kind, Some(prompt), None, 1).await;
    }
    pages
}

/// A snapshot of rankings and a file of it.
async fn export(
    db: &PgPool,
    app: &TestApp,
    alice: &Client<'_>,
    project: ProjectId,
    name: &str,
) -> (Uuid, Uuid) {
    let selection = Selection {
        project_id: project,
        kind: SnapshotKind::Rankings,
        name: name.to_owned(),
        categories: Vec::new(),
        include_simulated: false,
        reviewed_categories: false,
        include_personal: true,
        labels: server::domain::snapshot::Labels::default(),
        filters: server::domain::snapshot_filters::Filters::default(),
    };
    let snapshot = create_snapshot(db, &selection, None).await.unwrap();
    let path = format!("/api/v1/snapshots/{snapshot}/exports?format=trl");
    let wanted = alice.send_json("POST", &path, &[], &json!({})).await;
    assert_eq!(wanted.status, StatusCode::ACCEPTED, "{}", wanted.body);
    while build_next(db, &app.state.data.data_dir()).await.unwrap() {}
    let id = wanted.json()["id"].as_str().unwrap().parse().unwrap();
    (snapshot.0, id)
}

/// A run of PPO that has ended well, and the checkpoint that it made.
async fn train(db: &PgPool, run: RunId, texts: &Texts) -> Uuid {
    sqlx::query("UPDATE runs SET kind = 'ppo', config = $1")
        .bind(json!({"kl_budget": 30.0, "iterations": 2}))
        .execute(db)
        .await
        .unwrap();
    worker(db, "w").claim_next().await.unwrap().unwrap();
    let mut events = Vec::new();
    for step in 1..=3 {
        let values = json!({"objective/score": f64::from(step) - 3.0, "objective/kl": 2.5, "policy/ratio": 1.0});
        events.push((
            "metrics".to_owned(),
            json!({"step": step, "values": values}),
        ));
        let line = json!({"message": texts.next(300)});
        events.push(("log".to_owned(), line));
    }
    for index in 0..4 {
        let prompt = texts.next(9_000);
        for moment in ["before", "after"] {
            let data = json!({
                "moment": moment, "prompt_index": index, "prompt": prompt,
                "completion": texts.next(9_000), "reward": 0.5, "kl": 0.1,
            });
            events.push(("sample".to_owned(), json!({"step": 0, "data": data})));
        }
    }
    record(db, run, "w", &events).await;
    let summary = json!({"reward_before": -2.24, "reward_after": -1.11, "kl_last_batch": 2.5});
    finish(db, run, "w", Ending::Finished(summary)).await;
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO checkpoints (id, kind, name, path, architecture, n_parameters, sha256, run_id)
         VALUES ($1, 'policy', 'made', '/made', 'LlamaForCausalLM', 1, 'x', $2)",
    )
    .bind(id)
    .bind(run.0)
    .execute(db)
    .await
    .unwrap();
    id
}
