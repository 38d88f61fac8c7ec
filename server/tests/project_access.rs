//! Who may do what in which project: an admin of one project sees it and nothing of another.

use axum::http::StatusCode;
use serde_json::json;
use server::domain::ids::{AccountId, ProjectId, SnapshotId, TaskId};
use server::domain::role::{MemberRole, Role};
use server::domain::snapshot::{Selection, SnapshotKind};
use server::exchange::export::create_snapshot;
use server::store;
use sqlx::PgPool;

use crate::projects::encode;
use crate::support::{Answer, Client, TestApp, fake};

/// A project with a prompt, a task and a snapshot of its own.
pub(crate) struct World {
    pub(crate) own: Project,
    pub(crate) other: Project,
}

pub(crate) struct Project {
    pub(crate) id: ProjectId,
    slug: &'static str,
    pub(crate) task: TaskId,
    snapshot: SnapshotId,
}

async fn project(db: &PgPool, id: ProjectId, slug: &'static str, name: &str) -> Project {
    sqlx::query("UPDATE projects SET slug = $2, name = $3 WHERE id = $1")
        .bind(id.0)
        .bind(slug)
        .bind(name)
        .execute(db)
        .await
        .unwrap();
    let named = format!(
        "UPDATE prompts SET external_id = '{slug}-' || external_id WHERE project_id = '{id}'"
    );
    fake::rewrite(db, &named).await;
    let task: uuid::Uuid = sqlx::query_scalar("SELECT id FROM tasks WHERE project_id = $1")
        .bind(id.0)
        .fetch_one(db)
        .await
        .unwrap();
    let selection = Selection {
        project_id: id,
        kind: SnapshotKind::Prompts,
        name: format!("all of {slug}"),
        categories: Vec::new(),
        include_simulated: false,
        reviewed_categories: false,
        include_personal: false,
        labels: server::domain::snapshot::Labels::default(),
        filters: server::domain::snapshot_filters::Filters::default(),
    };
    let snapshot = create_snapshot(db, &selection, None).await.unwrap();
    let task = TaskId(task);
    Project {
        id,
        slug,
        task,
        snapshot,
    }
}

pub(crate) async fn world(db: &PgPool) -> World {
    let own = fake::project(db, 1, 4, 1, 3600).await;
    let own = project(db, own, "own", "Own project").await;
    let other = fake::project(db, 1, 4, 1, 3600).await;
    let other = project(db, other, "elsewhere", "Other project").await;
    World { own, other }
}

/// Somebody who administers a project and has no other role.
pub(crate) async fn project_admin<'app>(
    app: &'app TestApp,
    name: &str,
    project: ProjectId,
) -> Client<'app> {
    let mut db = app.state.db.acquire().await.unwrap();
    let email = format!("{name}@example.org");
    let id = store::accounts::insert(&mut db, &email, name, &[], false)
        .await
        .unwrap();
    appoint(app, project, id, MemberRole::Admin).await;
    app.sign_in(id).await
}

pub(crate) async fn appoint(app: &TestApp, project: ProjectId, id: AccountId, role: MemberRole) {
    let mut db = app.state.db.acquire().await.unwrap();
    store::members::assign(&mut db, project, id, &[], None)
        .await
        .unwrap();
    store::members::set_role(&mut db, project, id, role)
        .await
        .unwrap();
}

/// Every page of a project that is read.
pub(crate) fn pages(project: &Project) -> Vec<String> {
    let Project {
        id,
        slug,
        snapshot,
        task,
    } = project;
    vec![
        format!("/projects/{id}"),
        format!("/projects/{id}/form"),
        format!("/projects/{id}/rules/guidelines"),
        format!("/projects/{id}/rules/consent"),
        format!("/projects/{id}/members"),
        format!("/prompts?project={slug}"),
        format!("/tasks?project={slug}"),
        format!("/tasks/{task}"),
        format!("/gold?project={slug}"),
        format!("/attention?project={slug}"),
        format!("/adjudication?project={slug}"),
        format!("/screening?project={slug}"),
        format!("/agreement?project={slug}"),
        format!("/agreement/export?project={slug}&table=labelers"),
        format!("/models?project={slug}"),
        format!("/models/export?project={slug}&table=strengths"),
        format!("/audit?project={id}"),
        format!("/audit/export?project={id}"),
        format!("/projects/{id}/withdrawals"),
        format!("/api/v1/projects/{id}/agreement"),
        format!("/api/v1/projects/{id}/models"),
        format!("/snapshots/{snapshot}"),
        format!("/snapshots/{snapshot}/export"),
        format!("/api/v1/snapshots/{snapshot}"),
        format!("/api/v1/snapshots/{snapshot}/export"),
    ]
}

/// Every form of a project, with what it sends.
pub(crate) fn forms(project: &Project) -> Vec<(String, String)> {
    let Project { id, task, slug, .. } = project;
    let known = "purpose=gold&rank-1=1&rank-2=2".to_owned();
    let asked = format!("project={slug}&prompt={slug}-p0");
    let cut_offs =
        format!("project={slug}&least_flags=75&least_ranks=75&least_demonstrations=6&graders=1");
    let settings = "name=Taken&candidates=4&overlap=1&lease_seconds=60&least_seconds=1&gold_percent=0&repeat_percent=0\
        &repeat_after_days=1&evaluation_percent=0&next_task=random&is_open=true";
    let rules = encode(&[("en", "# Other rules"), ("action", "publish")]);
    let who = encode(&[("who", "ada@example.org"), ("role", "labeler")]);
    let nobody = AccountId::new();
    vec![
        (format!("/projects/{id}"), settings.to_owned()),
        (
            format!("/projects/{id}/archived"),
            "archived=true".to_owned(),
        ),
        (
            format!("/projects/{id}/form"),
            "action=publish&last=1".to_owned(),
        ),
        (format!("/projects/{id}/rules/guidelines"), rules.clone()),
        (format!("/projects/{id}/rules/consent"), rules),
        (format!("/projects/{id}/members"), who),
        (
            format!("/projects/{id}/members/import"),
            "lines=ada%40example.org".to_owned(),
        ),
        (
            format!("/projects/{id}/members/{nobody}/remove"),
            String::new(),
        ),
        (
            format!("/projects/{id}/withdrawals"),
            format!("account_id={nobody}"),
        ),
        (
            format!("/projects/{id}/withdrawals/{nobody}/end"),
            String::new(),
        ),
        (format!("/tasks/{task}/close"), String::new()),
        (format!("/tasks/{task}/reopen"), String::new()),
        (format!("/tasks/{task}/gold"), known),
        ("/screening/rules".to_owned(), cut_offs),
        ("/screening/demonstrations".to_owned(), asked),
    ]
}

async fn upload(admin: &Client<'_>, slug: &str) -> Answer {
    let line = json!({"id": "x", "prompt": "x"});
    let part = |name: &str, value: &str| {
        format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let parts = [
        part("project", slug),
        part("kind", "prompts"),
        part("lines", &line.to_string()),
    ];
    let body = format!("{}--B--\r\n", parts.concat());
    let request = admin
        .request("POST", "/prompts/import")
        .header("content-type", "multipart/form-data; boundary=B");
    admin
        .send(request.body(axum::body::Body::from(body)).unwrap())
        .await
}

/// Rows of every table that the forms write to.
async fn rows(db: &PgPool) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in [
        "projects",
        "prompts",
        "tasks WHERE closed_at IS NOT NULL",
        "forms",
        "guidelines",
        "consents",
        "members",
        "accounts",
        "snapshots",
        "projects WHERE next_task = 'random'",
        "projects WHERE archived_at IS NOT NULL",
        "gold_answers",
        "screening_rules",
        "tasks",
    ] {
        let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        counts.push(sqlx::query_scalar(statement).fetch_one(db).await.unwrap());
    }
    counts
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_of_a_project_sees_all_of_it_and_nothing_of_another(db: PgPool) {
    let world = world(&db).await;
    let app = TestApp::new(db.clone());
    app.labeler("ada").await;
    let paula = project_admin(&app, "paula", world.own.id).await;
    for page in pages(&world.own) {
        let answer = paula.get(&page).await;
        assert_eq!(answer.status, StatusCode::OK, "{page}: {}", answer.body);
    }
    let before = rows(&db).await;
    for page in pages(&world.other) {
        let answer = paula.get(&page).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{page}");
        assert!(!answer.body.contains("Other project"), "{page}");
    }
    for (path, form) in forms(&world.other) {
        let answer = paula.post(&path, &form).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let snapshot = encode(&[
        ("project", "elsewhere"),
        ("name", "mine"),
        ("kind", "prompts"),
    ]);
    let refused = paula.post("/snapshots", &snapshot).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        upload(&paula, "elsewhere").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        rows(&db).await,
        before,
        "something of the other project was changed"
    );

    // Lists are cut to what is theirs.
    for list in [
        "/",
        "/projects",
        "/prompts",
        "/tasks",
        "/gold",
        "/attention",
        "/adjudication",
        "/questions",
        "/screening",
        "/snapshots",
        "/guidelines",
        "/api/v1/projects",
        "/api/v1/snapshots",
    ] {
        let answer = paula.get(list).await;
        assert_eq!(answer.status, StatusCode::OK, "{list}");
        for word in [
            "Other project",
            "all of elsewhere",
            "elsewhere-p0",
            "\"elsewhere\"",
        ] {
            assert!(!answer.body.contains(word), "{list} tells of {word}");
        }
    }
    assert!(paula.get("/projects").await.body.contains("Own project"));
    assert!(paula.get("/snapshots").await.body.contains("all of own"));
    assert_eq!(
        paula
            .get("/api/v1/projects")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );

    // What is theirs they may change.
    assert_eq!(upload(&paula, "own").await.status, StatusCode::OK);
    let snapshot = encode(&[("project", "own"), ("name", "mine"), ("kind", "prompts")]);
    assert_eq!(
        paula.post("/snapshots", &snapshot).await.status,
        StatusCode::SEE_OTHER
    );
    for (path, form) in forms(&world.own) {
        let answer = paula.post(&path, &form).await;
        let is_fine = match path.as_str() {
            // Nobody of that id is a member or has said anything; the form says nothing and is complained about.
            path if path.ends_with("/remove") || path.contains("withdrawals") => {
                answer.status == StatusCode::NOT_FOUND
            }
            path if path.ends_with("/form") => answer.status == StatusCode::UNPROCESSABLE_ENTITY,
            path if path.ends_with("/import") => answer.status == StatusCode::OK,
            _ => answer.status == StatusCode::SEE_OTHER,
        };
        assert!(is_fine, "{path}: {} {}", answer.status, answer.body);
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_is_everybodys_stays_with_admins_of_everything(db: PgPool) {
    let world = world(&db).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let paula = project_admin(&app, "paula", world.own.id).await;
    for page in ["/accounts", "/projects/new", "/runs", "/checkpoints"] {
        assert_eq!(
            paula.get(page).await.status,
            StatusCode::FORBIDDEN,
            "{page}"
        );
    }
    let made = paula.post("/projects", "slug=mine&name=Mine").await;
    assert_eq!(made.status, StatusCode::FORBIDDEN);
    // She labels nowhere: that is a role of the account.
    assert_eq!(paula.post("/work", "").await.status, StatusCode::FORBIDDEN);

    let members = format!("/projects/{}/members", world.own.id);
    let page = paula.get(&members).await.body;
    assert!(
        !page.contains("ada@example.org"),
        "the list of all accounts is not hers"
    );
    // She assigns labelers by their address, not by name, and invites nobody.
    for who in ["ada", "unknown@example.org"] {
        let answer = paula
            .post(&members, &encode(&[("who", who), ("role", "labeler")]))
            .await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{who}");
    }
    let list = encode(&[("lines", "ada@example.org\nunknown@example.org")]);
    let refused = paula.post(&format!("{members}/import"), &list).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains("Line 2: ") && !refused.body.contains("Line 1: "));
    // Nor does she say who administers the project.
    let appoint_her = encode(&[("who", "ada@example.org"), ("role", "admin")]);
    let refused = paula.post(&members, &appoint_her).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let own = format!("{members}/{}/remove", paula.account_id.unwrap());
    assert_eq!(
        paula.post(&own, "").await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let demote = encode(&[("who", "paula@example.org"), ("role", "labeler")]);
    assert_eq!(
        paula.post(&members, &demote).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(ada.get(&members).await.status, StatusCode::FORBIDDEN);

    let admin = app.admin().await;
    assert_eq!(
        admin.post(&members, &appoint_her).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(ada.get(&members).await.status, StatusCode::OK);
    let nav = ada.get("/").await.body;
    assert!(nav.contains("href=\"/projects\"") && !nav.contains("href=\"/accounts\""));
    let demote = encode(&[("who", "ada@example.org"), ("role", "labeler")]);
    assert_eq!(
        admin.post(&members, &demote).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(ada.get(&members).await.status, StatusCode::FORBIDDEN);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn labelers_operators_and_strangers_set_nothing(db: PgPool) {
    let world = world(&db).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let operator = app.operator().await;
    // A member who labels is no admin of the project.
    appoint(
        &app,
        world.own.id,
        ada.account_id.unwrap(),
        MemberRole::Labeler,
    )
    .await;
    let before = rows(&db).await;
    for client in [&ada, &operator] {
        for page in pages(&world.own)
            .into_iter()
            .chain(["/projects".to_owned()])
        {
            // Operators see models, and snapshots, since runs read them; they export none of these.
            let is_models = page.starts_with("/models") || page.ends_with("/models");
            let is_seen = (is_models
                || page.starts_with("/snapshots") && !page.ends_with("export"))
                && client.account_id == operator.account_id;
            let expected = if is_seen {
                StatusCode::OK
            } else {
                StatusCode::FORBIDDEN
            };
            assert_eq!(client.get(&page).await.status, expected, "{page}");
        }
        for (path, form) in forms(&world.own) {
            assert_eq!(
                client.post(&path, &form).await.status,
                StatusCode::FORBIDDEN,
                "{path}"
            );
        }
        assert_eq!(upload(client, "own").await.status, StatusCode::FORBIDDEN);
    }
    for (path, form) in forms(&world.own) {
        let answer = app.anonymous().post(&path, &form).await;
        // Who sent nothing is led to the sign-in; who typed something is told first.
        let expected = match form.is_empty() {
            true => StatusCode::SEE_OTHER,
            false => StatusCode::UNAUTHORIZED,
        };
        assert_eq!(answer.status, expected, "{path}");
    }
    assert_eq!(rows(&db).await, before);
    assert_eq!(
        operator
            .get("/api/v1/projects")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn whoever_loses_a_project_loses_it_at_once(db: PgPool) {
    let world = world(&db).await;
    let app = TestApp::new(db.clone());
    let paula = project_admin(&app, "paula", world.own.id).await;
    let page = format!("/projects/{}", world.own.id);
    assert_eq!(paula.get(&page).await.status, StatusCode::OK);
    let mut connection = db.acquire().await.unwrap();
    let id = paula.account_id.unwrap();
    assert!(
        store::members::may_administer(&mut connection, id, world.own.id)
            .await
            .unwrap()
    );
    assert!(
        !store::members::may_administer(&mut connection, id, world.other.id)
            .await
            .unwrap()
    );
    store::members::remove(&mut connection, world.own.id, id)
        .await
        .unwrap();
    assert_eq!(paula.get(&page).await.status, StatusCode::FORBIDDEN);
    assert!(
        !store::members::may_administer(&mut connection, id, world.own.id)
            .await
            .unwrap()
    );
    // Nor does an account that is switched off administer anything, whatever its role.
    let roles = [Role::Admin];
    let gone = store::accounts::insert(&mut connection, "gone@example.org", "Gone", &roles, false)
        .await
        .unwrap();
    assert!(
        store::members::may_administer(&mut connection, gone, world.own.id)
            .await
            .unwrap()
    );
    store::accounts::set_disabled(&mut connection, gone, true)
        .await
        .unwrap();
    assert!(
        !store::members::may_administer(&mut connection, gone, world.own.id)
            .await
            .unwrap()
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn questions_decisions_and_candidates_are_of_the_projects_own_admins(db: PgPool) {
    let world = world(&db).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let paula = project_admin(&app, "paula", world.own.id).await;
    let other = project_admin(&app, "other", world.other.id).await;
    let path = ada.open_task().await;
    let id = path.rsplit('/').next().unwrap();
    let ask = encode(&[
        ("assignment_id", id),
        ("key", "k"),
        ("question", "Is brevity good?"),
    ]);
    let asked = ada.post("/questions", &ask).await;
    assert_eq!(asked.status, StatusCode::SEE_OTHER, "{}", asked.body);
    assert!(
        paula
            .get("/questions")
            .await
            .body
            .contains("Is brevity good?")
    );
    assert!(
        !other
            .get("/questions?state=all")
            .await
            .body
            .contains("Is brevity good?")
    );
    let question: uuid::Uuid = sqlx::query_scalar("SELECT id FROM questions")
        .fetch_one(&db)
        .await
        .unwrap();
    let answers = format!("/questions/{question}/answers");
    let answer = encode(&[
        ("answer", "It is."),
        ("publish", "true"),
        ("published_question", "Is brevity good?"),
    ]);
    assert_eq!(
        other.post(&answers, &answer).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        paula.post(&answers, &answer).await.status,
        StatusCode::SEE_OTHER
    );
    let given: uuid::Uuid = sqlx::query_scalar("SELECT id FROM answers")
        .fetch_one(&db)
        .await
        .unwrap();
    let withdraw = format!("/answers/{given}/withdraw");
    assert_eq!(
        other.post(&withdraw, "").await.status,
        StatusCode::NOT_FOUND
    );

    let own = world.own.task;
    let decide = encode(&[
        ("rank-1", "1"),
        ("rank-2", "2"),
        ("rank-3", "3"),
        ("rank-4", "4"),
    ]);
    let known = "purpose=gold&rank-1=1&rank-2=2";
    let made = paula.post(&format!("/tasks/{own}/gold"), known).await;
    let gold = made.location.unwrap().replace("/tasks/", "");
    let known = "purpose=screening&rank-1=1&rank-2=2";
    let made = paula.post(&format!("/tasks/{own}/gold"), known).await;
    let screening = made.location.unwrap().replace("/tasks/", "");
    let invite = encode(&[("project", "own"), ("email", "other@example.org")]);
    let invited = paula.post("/screening/candidates", &invite).await;
    assert_eq!(invited.status, StatusCode::SEE_OTHER, "{}", invited.body);
    let candidate: uuid::Uuid = sqlx::query_scalar("SELECT id FROM screenings")
        .fetch_one(&db)
        .await
        .unwrap();
    for (path, form) in [
        (format!("/adjudication/{own}"), decide.as_str()),
        (format!("/tasks/{gold}/gold"), "rank-1=1&rank-2=2"),
        (format!("/gold/{gold}/retire"), ""),
        (format!("/screening/tasks/{screening}/remove"), ""),
        (format!("/screening/{candidate}/withdraw"), ""),
        (format!("/screening/{candidate}/retake"), ""),
        ("/screening/candidates".to_owned(), invite.as_str()),
    ] {
        let refused = other.post(&path, form).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{path}");
    }
    for page in [
        format!("/adjudication/{own}"),
        format!("/tasks/{gold}"),
        format!("/tasks/{screening}"),
    ] {
        assert_eq!(
            other.get(&page).await.status,
            StatusCode::NOT_FOUND,
            "{page}"
        );
    }
    assert_eq!(
        paula.post(&format!("/gold/{gold}/retire"), "").await.status,
        StatusCode::SEE_OTHER
    );
}
