//! Every page of the site map in a real Chromium: axe-core finds nothing, nothing sticks out, and every button is
//! in reach; light and wide in English, dark and on a phone in Chinese.

use std::collections::BTreeSet;

use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::browser::sign_in;
use crate::support::TestApp;
use crate::support::browser::{
    Chrome, Kind, click, find_barriers, find_out_of_reach, find_overflow, look, wait_for,
    wait_for_address,
};
use crate::support::program::Program;
use crate::support::sayings::Texts;
use crate::support::world::{self, World};

/// A page: its place in the site map, who looks at it (nobody is signed in where this is empty), and its address.
pub(crate) type Stop = (&'static str, &'static str, fn(&World) -> String);

/// A file, which Lena may not have.
const REFUSED: &str = "/exports/{id}";

/// Every page, by who looks at it.
pub(crate) const PAGES: &[Stop] = &[
    ("/sign-in", "", |_| "/sign-in".into()),
    ("/sign-in/{token}", "", |world| world.link.clone()),
    ("/", "lena", |_| "/".into()),
    ("/account", "lena", |_| "/account".into()),
    ("/account/keys", "lena", |_| "/account/keys".into()),
    ("/work", "cleo", |_| "/work".into()),
    ("/work/history", "lena", |_| "/work/history".into()),
    ("/questions", "lena", |_| "/questions".into()),
    ("/guidelines", "lena", |_| "/guidelines".into()),
    ("/rank/{id}", "lena", |world| world.open[0].clone()),
    ("/rank/{id}", "lena", |world| world.open[1].clone()),
    ("/rank/{id}/differences", "lena", |world| {
        format!("{}/differences?a=1&b=2", world.open[0])
    }),
    ("/demonstrate/{id}", "lena", |world| world.open[2].clone()),
    ("/demonstrate/{id}", "lena", |world| world.open[3].clone()),
    ("/demonstrate/{id}", "lena", |world| world.open[4].clone()),
    ("/review/{id}", "lena", |world| world.open[5].clone()),
    ("/screening", "yan", |_| "/screening".into()),
    ("/screening/{id}", "yan", |world| {
        format!("/screening/{}", world.screenings[0])
    }),
    ("/screening/{id}", "zoe", |world| {
        format!("/screening/{}", world.screenings[1])
    }),
    ("/", "alice", |_| "/".into()),
    ("/guidelines", "alice", |_| "/guidelines".into()),
    ("/questions", "alice", |_| "/questions?state=all".into()),
    ("/screening", "alice", |_| "/screening?project=study".into()),
    ("/screening/{id}", "alice", |world| {
        format!("/screening/{}", world.screenings[1])
    }),
    ("/screening/grading", "alice", |_| {
        "/screening/grading".into()
    }),
    ("/adjudication", "alice", |_| {
        "/adjudication?state=all".into()
    }),
    ("/adjudication/{id}", "alice", |world| {
        format!("/adjudication/{}?names=true", world.groups[0].tasks[0])
    }),
    ("/attention", "alice", |_| "/attention".into()),
    ("/gold", "alice", |_| "/gold".into()),
    ("/projects", "alice", |_| "/projects".into()),
    ("/projects/new", "alice", |_| "/projects/new".into()),
    ("/projects/{id}", "alice", |world| {
        format!("/projects/{}", world.project)
    }),
    ("/projects/{id}/form", "alice", |world| {
        format!("/projects/{}/form", world.project)
    }),
    ("/projects/{id}/rules/{subject}", "alice", |world| {
        format!("/projects/{}/rules/guidelines?from=1&to=2", world.project)
    }),
    ("/projects/{id}/rules/{subject}", "alice", |world| {
        format!("/projects/{}/rules/consent", world.project)
    }),
    ("/projects/{id}/members", "alice", |world| {
        format!("/projects/{}/members", world.project)
    }),
    ("/projects/{id}/withdrawals", "alice", |world| {
        format!("/projects/{}/withdrawals", world.project)
    }),
    ("/accounts", "alice", |_| "/accounts".into()),
    ("/prompts", "alice", |_| "/prompts".into()),
    ("/tasks", "alice", |_| "/tasks".into()),
    ("/tasks/new", "alice", |_| "/tasks/new".into()),
    ("/tasks/{id}", "alice", |world| {
        format!("/tasks/{}?names=true", world.groups[0].tasks[0])
    }),
    ("/tasks/{id}", "alice", |world| {
        format!("/tasks/{}", world.groups[0].tasks[2])
    }),
    ("/tasks/{id}", "alice", |world| {
        format!("/tasks/{}", world.groups[0].tasks[3])
    }),
    ("/tasks/{id}", "alice", |world| {
        format!("/tasks/{}?names=true", world.groups[0].tasks[5])
    }),
    ("/tasks/{id}", "alice", |world| {
        format!("/tasks/{}", world.gold)
    }),
    ("/agreement", "alice", |_| "/agreement".into()),
    ("/agreement/labelers/{id}", "alice", |world| {
        format!("/agreement/labelers/{}", world.labeler)
    }),
    ("/models", "alice", |_| "/models".into()),
    ("/snapshots", "alice", |_| "/snapshots".into()),
    ("/snapshots/{id}", "alice", |world| {
        format!("/snapshots/{}", world.snapshot)
    }),
    ("/audit", "alice", |_| "/audit".into()),
    ("/runs", "olga", |_| "/runs".into()),
    ("/runs/new", "olga", |_| "/runs/new?kind=ppo".into()),
    ("/runs/{id}", "olga", |world| format!("/runs/{}", world.run)),
    ("/checkpoints", "olga", |_| "/checkpoints".into()),
    ("/checkpoints/{id}", "olga", |world| {
        format!("/checkpoints/{}", world.checkpoint)
    }),
    // A refusal is a page too.
    (REFUSED, "lena", |world| {
        format!("/exports/{}", world.export)
    }),
];

/// What can be asked for and is no page, and why.
const NO_PAGES: &[(&str, &str)] = &[
    ("/work/last", "leads to the last submission"),
    ("/runs/{id}/events", "a stream of events"),
    ("/runs/{id}/files/{name}", "a file"),
    ("/agreement/export", "a file"),
    ("/models/export", "a file"),
    ("/audit/export", "a file"),
    ("/snapshots/{id}/export", "a file"),
    ("/static/{version}/{*path}", "files"),
    ("/healthz", "for programs"),
    ("/readyz", "for programs"),
    ("/metrics", "for programs"),
];

#[test]
fn every_page_of_the_site_map_is_looked_at() {
    let source = include_str!("../src/router.rs");
    let source = source.split_whitespace().collect::<Vec<_>>().join(" ");
    let asked_for: BTreeSet<&str> = source
        .split(".route(")
        .skip(1)
        .filter(|route| route.contains("get("))
        .map(|route| route.split('"').nth(1).unwrap())
        .filter(|path| !path.starts_with("/api/"))
        .collect();
    assert!(asked_for.len() > 50, "the site map was read");
    let pages = PAGES.iter().map(|(route, ..)| *route);
    let known: BTreeSet<&str> = pages
        .chain(NO_PAGES.iter().map(|(route, _)| *route))
        .collect();
    assert_eq!(asked_for, known);
}

/// What people write on a good day.
pub(crate) fn ordinary() -> Vec<String> {
    [
        "Why is the sea salty?",
        "Rivers wash **salt** out of rocks and carry it into the sea; the sun takes the water away again.",
        "用三句话解释光合作用。",
        "光合作用把光能变成化学能：叶绿体吸收光，把水和二氧化碳变成糖，并放出氧气。",
        "اشرح لي لماذا السماء زرقاء.",
        "Sort a list:\n\n```python\ndef top(items, n=3):\n    return sorted(items)[-n:]\n```\n\nIt takes $O(n \\log n)$.",
        "| City | Country |\n|---|---|\n| Paris | France |\n| Lima | Peru |",
    ]
    .map(str::to_owned)
    .into()
}

/// Goes to a page as somebody, in a language and a theme, and unfolds everything.
pub(crate) async fn go(browser: &WebDriver, program: &Program, path: &str) {
    browser
        .goto(format!("{}{path}", program.url))
        .await
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    wait_for(browser, "h1").await;
    let unfold =
        "document.querySelectorAll('main details').forEach((part) => { part.open = true; })";
    browser.execute(unfold, Vec::new()).await.unwrap();
}

/// Signs in as somebody instead of whoever it was; as nobody where the name is empty.
pub(crate) async fn become_somebody(
    browser: &WebDriver,
    db: &PgPool,
    program: &Program,
    name: &str,
) {
    if name.is_empty() {
        return;
    }
    browser
        .goto(format!("{}/account", program.url))
        .await
        .unwrap();
    if browser
        .find(By::Css("form[action='/sign-out']"))
        .await
        .is_ok()
    {
        click(browser, "form[action='/sign-out'] button").await;
        wait_for_address(browser, "/sign-in").await;
    }
    sign_in(browser, db, program, &format!("{name}@example.org")).await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn every_page_shuts_nobody_out_and_fits_in_both_themes_and_languages(db: PgPool) {
    let app = TestApp::new(db.clone());
    let texts = Texts::new(
        ordinary(),
        ["sft-1.3b", "ppo-400", "base-1.3b"].map(str::to_owned),
        false,
    );
    let world = world::build(&db, &app, &[ordinary()], &texts).await;
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let mut faults = Vec::new();
    for (kind, lang, theme) in [(Kind::Desktop, "en", "light"), (Kind::Phone, "zh", "dark")] {
        let browser = chrome.open(kind, program.folder.path()).await;
        browser
            .goto(format!("{}/sign-in", program.url))
            .await
            .unwrap();
        for (name, value) in [("lang", lang), ("theme", theme)] {
            let mut cookie = Cookie::new(name, value);
            cookie.set_path("/");
            browser.add_cookie(cookie).await.unwrap();
        }
        let mut who = "";
        for (index, (route, by, address)) in PAGES.iter().enumerate() {
            if who != *by {
                become_somebody(&browser, &db, &program, by).await;
                who = by;
            }
            let path = address(&world);
            go(&browser, &program, &path).await;
            wait_for(
                &browser,
                &format!("html[lang='{lang}'][data-theme='{theme}']"),
            )
            .await;
            let mut found = find_overflow(&browser).await;
            let script = "return performance.getEntriesByType('navigation')[0].responseStatus";
            let status = browser.execute(script, Vec::new()).await.unwrap();
            let expected = if *route == REFUSED { 403 } else { 200 };
            if status.convert::<u16>().unwrap() != expected {
                found.push(format!("answered {}", status.json()));
            }
            let hidden = find_out_of_reach(&browser).await;
            found.extend(hidden.iter().map(|what| format!("out of reach: {what}")));
            found.extend(find_barriers(&browser).await.unwrap_or_default());
            if std::env::var("PLACKETT_SCREENSHOTS").is_ok() {
                let width = if kind == Kind::Phone { 390 } else { 1280 };
                chrome.stretch(&browser, width).await;
                let name = route.replace(['/', '{', '}', '*'], "-");
                look(&browser, &format!("page-{index:02}{name}{by}-{lang}")).await;
            }
            if !found.is_empty() {
                faults.push(format!(
                    "{path} ({by}, {lang}, {theme}):\n  {}",
                    found.join("\n  ")
                ));
            }
        }
        browser.quit().await.unwrap();
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
