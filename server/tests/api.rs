//! The JSON API as a program meets it: what it may hold, what it finds again, how it is refused, and
//! that the description says what the router does.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::StatusCode;
use futures_util::future::join_all;
use serde_json::{Value, json};
use server::domain::form::Form;
use server::domain::ids::{AssignmentId, ProjectId};
use server::domain::role::Role;
use server::store;
use server::store::queue::MOST_LEASES;
use sqlx::PgPool;

use crate::support::{Answer, Client, TestApp, fake};

const LIST: &str = "/api/v1/assignments";

async fn lease(robot: &Client<'_>, project: ProjectId) -> Answer {
    let path = format!("/api/v1/projects/{project}/assignments");
    robot.send_json("POST", &path, &[], &json!({})).await
}

fn ids(assignments: &Value) -> Vec<&str> {
    let list = assignments.as_array().unwrap();
    list.iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect()
}

fn fields(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let problem = answer.json();
    let errors = problem["errors"].as_array().unwrap();
    errors
        .iter()
        .map(|error| error["field"].as_str().unwrap().to_owned())
        .collect()
}

async fn let_leases_run_out(db: &PgPool) {
    sqlx::query("UPDATE assignments SET lease_until = now() - interval '1 second'")
        .execute(db)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_account_holds_ten_leases_of_a_project_however_many_it_asks_for_at_once(db: PgPool) {
    let project = fake::project(&db, MOST_LEASES + 5, 4, 2, 3600).await;
    let app = TestApp::new(db.clone());
    let robot = app.program("robot", &[Role::Labeler]).await;
    let answers = join_all((0..MOST_LEASES + 5).map(|_| lease(&robot, project))).await;
    let (leased, refused): (Vec<&Answer>, Vec<&Answer>) = answers
        .iter()
        .partition(|answer| answer.status == StatusCode::CREATED);
    assert_eq!((leased.len(), refused.len()), (MOST_LEASES, 5));
    for answer in refused {
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("holds 10 tasks"), "{detail}");
        assert!(detail.contains("GET /api/v1/assignments"), "{detail}");
    }
    let other = app.program("other", &[Role::Labeler]).await;
    assert_eq!(lease(&other, project).await.status, StatusCode::CREATED);

    // One given back makes room for one.
    let held = robot.get(LIST).await.json();
    assert_eq!(ids(&held).len(), MOST_LEASES);
    let path = format!("{LIST}/{}/skip", ids(&held)[0]);
    let reason = json!({"reason": "unclear_prompt"});
    let skipped = robot.send_json("POST", &path, &[], &reason).await;
    assert_eq!(skipped.status, StatusCode::NO_CONTENT, "{}", skipped.body);
    assert_eq!(lease(&robot, project).await.status, StatusCode::CREATED);
    assert_eq!(lease(&robot, project).await.status, StatusCode::CONFLICT);
    // A lease whose time ran out holds nothing.
    let_leases_run_out(&db).await;
    assert_eq!(lease(&robot, project).await.status, StatusCode::CREATED);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_program_that_lost_an_answer_finds_its_own_leases_again(db: PgPool) {
    let project = fake::project(&db, 3, 4, 2, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let empty = store::projects::insert(&mut connection, "empty", "Empty", 1, 3600)
        .await
        .unwrap();
    drop(connection);
    let app = TestApp::new(db.clone());
    let robot = app.program("robot", &[Role::Labeler]).await;
    let first = lease(&robot, project).await.json();
    let answer = lease(&robot, project).await;
    let second = answer.json();
    let first_path = format!("{LIST}/{}", first["id"].as_str().unwrap());
    let second_path = format!("{LIST}/{}", second["id"].as_str().unwrap());
    assert_eq!(answer.location.as_ref(), Some(&second_path));
    assert_eq!(
        (&second["status"], &second["project_id"]),
        (&json!("leased"), &json!(project.to_string()))
    );
    let draft = json!({"candidates": [{"position": 2, "rank": 1}]});
    let saved = robot
        .send_json("PUT", &format!("{first_path}/draft"), &[], &draft)
        .await;
    assert_eq!(saved.status, StatusCode::OK, "{}", saved.body);

    // Newest first, the same body as the lost answer, and the draft with its revision.
    let answer = robot.get(LIST).await;
    assert!(!answer.body.contains("secret-model"), "{}", answer.body);
    let held = answer.json();
    assert_eq!(ids(&held), [&second["id"], &first["id"]]);
    assert_eq!(held[0], second);
    assert_eq!(held[1]["draft"]["candidates"], draft["candidates"]);
    assert_eq!(held[1]["draft_revision"], 1);
    assert_eq!(robot.get(&first_path).await.json(), held[1]);
    let of_project = robot.get(&format!("{LIST}?project={project}")).await.json();
    assert_eq!(of_project, held);
    let of_empty = robot.get(&format!("{LIST}?project={empty}")).await.json();
    assert_eq!(of_empty, json!([]));

    // Nobody else's exists.
    let other = app.program("other", &[Role::Labeler]).await;
    assert_eq!(other.get(LIST).await.json(), json!([]));
    let answer = other.get(&first_path).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.headers["content-type"], "application/problem+json");

    // What is done or has run out is no live lease, and says so.
    let ranks = (1..=4).map(|position| json!({"position": position, "rank": 1}));
    let body = json!({"candidates": ranks.collect::<Vec<_>>()});
    let path = format!("{second_path}/submission");
    let key = [("idempotency-key", "k1")];
    let submitted = robot.send_json("POST", &path, &key, &body).await;
    assert_eq!(submitted.status, StatusCode::CREATED, "{}", submitted.body);
    let status = robot.get(&second_path).await.json()["status"].clone();
    assert_eq!(status, "submitted");
    assert_eq!(ids(&robot.get(LIST).await.json()), [&first["id"]]);
    let_leases_run_out(&db).await;
    assert_eq!(robot.get(LIST).await.json(), json!([]));
    let status = robot.get(&first_path).await.json()["status"].clone();
    assert_eq!(status, "expired");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_refusal_names_the_wrong_part_of_the_address_or_the_body(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let robot = app.program("robot", &[Role::Labeler]).await;
    let admin = app.program("admin", &[Role::Admin]).await;
    let no_body = json!({});
    let slug = "/api/v1/projects/study/assignments";
    for (answer, field) in [
        (robot.send_json("POST", slug, &[], &no_body).await, "id"),
        (robot.get("/api/v1/assignments/study").await, "id"),
        (
            robot.get("/api/v1/assignments?project=study").await,
            "project",
        ),
        (admin.get("/api/v1/snapshots/study").await, "id"),
        (admin.get("/api/v1/snapshots/study/export").await, "id"),
        (admin.get("/api/v1/snapshots?before=study").await, "before"),
    ] {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
        assert_eq!(fields(&answer), [field]);
    }

    // An entry is named by its place in the list that was sent, counted from 0 as in JSON, whether
    // its type or its value is wrong; a missing one has no place.
    let leased = lease(&robot, project).await.json();
    let path = format!("{LIST}/{}/submission", leased["id"].as_str().unwrap());
    let key = [("idempotency-key", "k1")];
    let entry = |position: usize, rank: Value| json!({"position": position, "rank": rank});
    for (wrong, expected) in [
        (vec![entry(3, json!("first"))], vec!["candidates[0].rank"]),
        (
            vec![
                entry(3, json!(9)),
                entry(1, json!(1)),
                entry(2, json!(1)),
                entry(4, json!(0)),
            ],
            vec!["candidates[0].rank", "candidates[3].rank"],
        ),
        (
            vec![entry(2, json!(1)), entry(1, json!(1))],
            vec!["candidates", "candidates"],
        ),
    ] {
        let body = json!({"candidates": wrong});
        let answer = robot.send_json("POST", &path, &key, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(fields(&answer), expected, "{}", answer.body);
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn who_is_not_known_is_told_how_to_say_who_they_are(db: PgPool) {
    let app = TestApp::new(db);
    let nobody = app.anonymous();
    let with_wrong_token = nobody
        .request("GET", LIST)
        .header("authorization", "Bearer nonsense");
    let request = with_wrong_token.body(Body::empty()).unwrap();
    for answer in [nobody.get(LIST).await, nobody.send(request).await] {
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_description_has_every_route_of_the_router_and_no_other(db: PgPool) {
    let app = TestApp::new(db);
    let nobody = app.anonymous();
    let description = nobody.get("/api/v1/openapi.json").await.json();
    let paths = description["paths"].as_object().unwrap();
    // The router lists no routes; its source is that list.
    let source = include_str!("../src/router.rs");
    let routed: BTreeSet<&str> = source
        .split('"')
        .filter(|text| text.starts_with("/api/"))
        .collect();
    let described: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(routed, described);

    let mut names = BTreeSet::new();
    for (path, operations) in paths {
        let operations = operations.as_object().unwrap();
        // Refusing a method, the router names those it takes.
        let address = path.replace("{id}", &AssignmentId::new().to_string());
        let request = nobody.request("BREW", &address).body(Body::empty());
        let answer = nobody.send(request.unwrap()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let allowed = answer.headers["allow"].to_str().unwrap().to_lowercase();
        let taken: BTreeSet<&str> = allowed
            .split(',')
            .map(str::trim)
            .filter(|method| *method != "head")
            .collect();
        let described: BTreeSet<&str> = operations.keys().map(String::as_str).collect();
        assert_eq!(taken, described, "{path}");

        for operation in operations.values() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "two operations are called {name}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let problem = &response["content"]["application/problem+json"];
                assert_eq!(status.starts_with('4'), problem.is_object(), "{name}");
            }
            let says_how = operation["responses"]["401"]["headers"]["WWW-Authenticate"].is_object();
            assert_eq!(says_how, operation["security"].is_array(), "{name}");
        }
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_description_lists_the_flags_and_the_reasons_to_skip(db: PgPool) {
    let app = TestApp::new(db);
    let description = app.anonymous().get("/api/v1/openapi.json").await.json();
    let schemas = &description["components"]["schemas"];
    let form = Form::default();
    let flags: Vec<&str> = form.flags.iter().map(|flag| flag.key.as_str()).collect();
    assert_eq!(flags.len(), 11);
    assert_eq!(schemas["Flag"]["examples"], json!(flags));
    let answers = &schemas["CandidateInput"]["properties"]["flags"];
    assert_eq!(answers["propertyNames"]["examples"], json!(flags));
    let reasons: Vec<&str> = form
        .skip_reasons
        .iter()
        .map(|reason| reason.key.as_str())
        .collect();
    assert_eq!(schemas["SkipReason"]["examples"], json!(reasons));
    assert_eq!(
        schemas["SkipInput"]["properties"]["reason"]["$ref"],
        "#/components/schemas/SkipReason"
    );
    assert_eq!(
        schemas["AssignmentStatus"]["enum"],
        json!(["leased", "submitted", "skipped", "expired"])
    );
    // Every reference leads somewhere.
    let text = description.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas[name].is_object(), "{name} is not described");
    }
}
