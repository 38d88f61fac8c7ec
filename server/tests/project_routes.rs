//! Every route of admins, asked by each role: an admin of everything, of this project, of another project, a
//! labeler, an operator, and nobody.

use axum::http::StatusCode;
use server::domain::role::{MemberRole, Role};
use sqlx::PgPool;

use crate::project_access::{appoint, forms, pages, project_admin, world};
use crate::support::{TestApp, fake};

/// Routes of admins that [`pages`] and [`forms`] do not have, with why: an id that no project has.
fn of_nothing() -> Vec<(&'static str, String, &'static str)> {
    let id = uuid::Uuid::now_v7();
    let posts = [
        ("/questions/{}/answers", "answer=x"),
        ("/answers/{}/withdraw", ""),
        ("/screening/tasks/{}/remove", ""),
        ("/screening/{}/retake", ""),
        ("/screening/{}/withdraw", ""),
        ("/gold/{}/retire", ""),
        ("/adjudication/{}", "rank-1=1&rank-2=2"),
        ("/snapshots/{}/exports", "format=prompts"),
        ("/api/v1/snapshots/{}/exports", ""),
    ];
    let gets = [
        "/adjudication/{}",
        "/exports/{}",
        "/api/v1/exports/{}",
        "/api/v1/exports/{}/file",
    ];
    let named = |path: &str| path.replace("{}", &id.to_string());
    let posts = posts.map(|(path, form)| ("POST", named(path), form));
    let gets = gets.map(|path| ("GET", named(path), ""));
    posts.into_iter().chain(gets).collect()
}

/// Routes of admins that need no project, or are everybody's in part; their own tests hold them.
const ELSEWHERE: [(&str, &str); 17] = [
    ("/accounts", "of admins of everything: project_access"),
    ("/accounts/{id}/link", "of admins of everything: signing_in"),
    (
        "/accounts/{id}/roles",
        "of admins of everything: signing_in",
    ),
    (
        "/accounts/{id}/disabled",
        "of admins of everything: signing_in",
    ),
    ("/projects/new", "of admins of everything: project_access"),
    ("/projects", "a list that is cut: project_access"),
    ("/snapshots", "a list that is cut: project_access"),
    ("/prompts/import", "a file: project_access"),
    (
        "/tasks/new",
        "a list of own projects: task_opening::an_admin_of_a_project_opens_its_tasks_and_no_others",
    ),
    (
        "/screening/grading",
        "work that is handed out: screening_grading",
    ),
    ("/screening/candidates", "invites an address: screening"),
    ("/api/v1/openapi.json", "everybody's"),
    ("/api/v1/projects", "a list that is cut: project_access"),
    ("/api/v1/snapshots", "a list that is cut: project_access"),
    (
        "/projects/{id}/members/{account_id}/remove",
        "among the forms",
    ),
    ("/api/v1/projects/{id}/assignments", "of labelers: api"),
    (
        "/agreement/labelers/{id}",
        "of somebody who labelled: below",
    ),
];

/// Whether an address is one of a route.
fn is_of(route: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (route, path): (Vec<_>, Vec<_>) = (route.split('/').collect(), path.split('/').collect());
    route.len() == path.len()
        && route
            .iter()
            .zip(&path)
            .all(|(one, other)| one.starts_with('{') || one == other)
}

/// The routes of the site map between two of its headings.
fn routes(from: &str, until: &str) -> Vec<String> {
    let source = include_str!("../src/router.rs");
    let (_, part) = source.split_once(from).unwrap();
    let (part, _) = part.split_once(until).unwrap();
    let mut parts = part.split(".route(").skip(1);
    let mut found = Vec::new();
    for part in &mut parts {
        let path = part.split('"').nth(1).unwrap();
        found.push(path.to_owned());
    }
    assert!(found.len() > 5, "the site map has other headings now");
    found
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn no_route_of_admins_is_forgotten_here(db: PgPool) {
    let world = world(&db).await;
    let mut known: Vec<String> = pages(&world.own);
    known.extend(forms(&world.own).into_iter().map(|(path, _)| path));
    known.extend(of_nothing().into_iter().map(|(_, path, _)| path));
    let mut all = routes(
        "// Admins, of everything or of single projects.",
        "// Operators.",
    );
    let api = routes("// Programs.", "// The house itself.");
    all.extend(
        api.into_iter()
            .filter(|path| !path.starts_with("/api/v1/assignments")),
    );
    for route in all {
        let is_known = known.iter().any(|path| is_of(&route, path))
            || ELSEWHERE.iter().any(|(own, _)| *own == route);
        assert!(
            is_known,
            "who may use {route}? Say it in this file or in project_access"
        );
    }
}

/// What operators may read, since runs read it and models are theirs.
fn is_shared(path: &str) -> bool {
    let is_models = path.starts_with("/models") || path.ends_with("/models");
    is_models || path.starts_with("/snapshots") && !path.ends_with("export")
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn every_page_of_a_project_is_for_its_admins_and_for_those_of_everything(db: PgPool) {
    let world = world(&db).await;
    let app = TestApp::new(db.clone());
    let root = app.admin().await;
    let paula = project_admin(&app, "paula", world.own.id).await;
    let olga = project_admin(&app, "olga", world.other.id).await;
    let ada = app.labeler("ada").await;
    appoint(
        &app,
        world.own.id,
        ada.account_id.unwrap(),
        MemberRole::Labeler,
    )
    .await;
    let operator = app.operator().await;
    for path in pages(&world.own) {
        let shared = match is_shared(&path) {
            true => StatusCode::OK,
            false => StatusCode::FORBIDDEN,
        };
        let nobody = match path.starts_with("/api/") {
            true => StatusCode::UNAUTHORIZED,
            false => StatusCode::SEE_OTHER,
        };
        for (who, client, expected) in [
            ("an admin of everything", &root, StatusCode::OK),
            ("an admin of the project", &paula, StatusCode::OK),
            ("an admin of another project", &olga, StatusCode::NOT_FOUND),
            ("a labeler", &ada, StatusCode::FORBIDDEN),
            ("an operator", &operator, shared),
            ("nobody", &app.anonymous(), nobody),
        ] {
            let answer = client.get(&path).await;
            assert_eq!(answer.status, expected, "{who} at {path}: {}", answer.body);
        }
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn every_form_of_a_project_is_for_its_admins_and_for_those_of_everything(db: PgPool) {
    let world = world(&db).await;
    let app = TestApp::new(db.clone());
    let root = app.admin().await;
    let paula = project_admin(&app, "paula", world.own.id).await;
    let olga = project_admin(&app, "olga", world.other.id).await;
    let ada = app.labeler("ada").await;
    appoint(
        &app,
        world.own.id,
        ada.account_id.unwrap(),
        MemberRole::Labeler,
    )
    .await;
    let operator = app.operator().await;
    for (path, form) in forms(&world.own) {
        let nobody = match form.is_empty() {
            true => StatusCode::SEE_OTHER,
            false => StatusCode::UNAUTHORIZED,
        };
        for (who, client, expected) in [
            ("an admin of another project", &olga, StatusCode::NOT_FOUND),
            ("a labeler", &ada, StatusCode::FORBIDDEN),
            ("an operator", &operator, StatusCode::FORBIDDEN),
            ("nobody", &app.anonymous(), nobody),
        ] {
            let answer = client.post(&path, &form).await;
            assert_eq!(answer.status, expected, "{who} at {path}: {}", answer.body);
        }
    }
    // Whoever may is let through to what the form says: never "not yours".
    for (project, client) in [(&world.own, &paula), (&world.other, &root)] {
        for (path, form) in forms(project) {
            let answer = client.post(&path, &form).await;
            let is_fine = match answer.status {
                StatusCode::SEE_OTHER | StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY => true,
                // Nobody of that id is a member, or has said anything.
                StatusCode::NOT_FOUND => path.ends_with("/remove") || path.contains("withdrawals"),
                _ => false,
            };
            assert!(is_fine, "{path}: {} {}", answer.status, answer.body);
        }
    }
    for (method, path, form) in of_nothing() {
        let nobody = match (method, path.starts_with("/api/"), form.is_empty()) {
            ("GET", false, _) | ("POST", false, true) => StatusCode::SEE_OTHER,
            _ => StatusCode::UNAUTHORIZED,
        };
        for (who, client, expected) in [
            ("an admin of everything", &root, StatusCode::NOT_FOUND),
            ("an admin of a project", &paula, StatusCode::NOT_FOUND),
            ("a labeler", &ada, StatusCode::FORBIDDEN),
            ("an operator", &operator, StatusCode::FORBIDDEN),
            ("nobody", &app.anonymous(), nobody),
        ] {
            let answer = match method {
                "GET" => client.get(&path).await,
                _ => client.post(&path, form).await,
            };
            assert_eq!(answer.status, expected, "{who} at {path}: {}", answer.body);
        }
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn figures_and_the_log_of_an_admin_of_one_project_are_of_that_project(db: PgPool) {
    let world = world(&db).await;
    let app = TestApp::new(db.clone());
    let root = app.admin().await;
    let paula = project_admin(&app, "paula", world.own.id).await;
    let zoe = app.labeler("zoe").await;
    fake::acknowledge(&db).await;
    for project in [&world.own, &world.other] {
        let path = format!("/tasks/{}/close", project.task);
        assert_eq!(root.post(&path, "").await.status, StatusCode::SEE_OTHER);
    }
    // Neither list names the other project, whichever is looked at.
    for list in ["/agreement", "/models", "/audit"] {
        let page = paula.get(list).await;
        assert_eq!(page.status, StatusCode::OK, "{list}");
        assert!(!page.body.contains("Other project"), "{list}");
        let whole = root.get(list).await.body;
        assert!(whole.contains("Other project"), "{list}");
    }
    // Somebody who never labelled here has no page, and so no name.
    let zoe = zoe.account_id.unwrap();
    let page = paula
        .get(&format!("/agreement/labelers/{zoe}?project=own"))
        .await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(!page.body.contains("zoe"));
    // The log has what anybody did here, and nothing of sign-ins or other projects.
    let log = paula.get("/audit").await.body;
    assert!(log.contains("closed a task"), "{log}");
    assert_eq!(log.matches("closed a task</td>").count(), 1);
    assert!(!log.contains("signed in</td>"));
    assert!(!log.contains("zoe@example.org"), "did nothing here");
    let lines = paula.get("/audit/export").await.body;
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!lines.is_empty());
    for line in &lines {
        assert_eq!(line["project"]["id"], world.own.id.to_string(), "{line}");
    }
    let whole = root.get("/audit/export").await.body;
    assert!(whole.lines().count() > lines.len());
    // An export of one project stands in that project's log.
    let own = format!("/audit/export?project={}", world.own.id);
    let told = paula.get(&own).await.body;
    let last: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(last["action"], "export");
    let nav = paula.get("/").await.body;
    for link in ["/agreement", "/models", "/audit"] {
        assert!(nav.contains(&format!("href=\"{link}\"")), "{link}");
    }
    // By a token, too.
    let robot = app.program("robot", &[Role::Labeler]).await;
    let path = format!("/api/v1/projects/{}/agreement", world.own.id);
    assert_eq!(robot.get(&path).await.status, StatusCode::FORBIDDEN);
    appoint(
        &app,
        world.own.id,
        robot.account_id.unwrap(),
        MemberRole::Admin,
    )
    .await;
    assert_eq!(robot.get(&path).await.status, StatusCode::OK);
    let other = format!("/api/v1/projects/{}/agreement", world.other.id);
    assert_eq!(robot.get(&other).await.status, StatusCode::NOT_FOUND);
}
