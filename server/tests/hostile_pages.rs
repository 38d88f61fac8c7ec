//! Adversarial texts on every page of the site map, in a real Chromium, wherever a page says something that people
//! or models wrote: prompts, completions, demonstrations, reviews, questions, notes, names, labels of forms.

use serde_json::json;
use sqlx::PgPool;

use crate::every_page::{PAGES, become_somebody};
use crate::support::TestApp;
use crate::support::browser::{Chrome, Kind, click, find_overflow, keep_picture, wait_for};
use crate::support::hostile::{check_requests, corpus, examine, find_complaints, n_reports};
use crate::support::program::Program;
use crate::support::sayings::Texts;
use crate::support::world;

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn hostile_texts_do_nothing_to_any_page(db: PgPool) {
    let mut texts: Vec<String> = corpus().into_iter().map(|(_, text)| text).collect();
    texts.sort_by_key(String::len);
    // The long ones share their task with nobody: together they are the last group.
    let groups: Vec<Vec<String>> = texts.chunks(37).map(<[String]>::to_vec).collect();
    let short = texts.iter().filter(|text| text.len() < 500);
    let line =
        |text: &String| json!({"id": text, "prompt": "p", "category": text, text: 1}).to_string();
    let lines = short.map(line).collect::<Vec<_>>().join("\n");
    let app = TestApp::new(db.clone());
    let models = [
        "<img src=x onerror=\"window.hostile = 1\">",
        "\u{202E}ledom-a\u{202C} <script>window.hostile = 1</script>",
        "a-model-whose-name-has-no-end-and-no-place-to-break-it-that-would-not-look-odd-aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let said = Texts::new(texts, models.map(str::to_owned), true);
    let world = world::build(&db, &app, &groups, &said).await;
    world::rename(&db, &said).await;
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;

    let group_pages = world.groups.iter().enumerate().flat_map(|(number, group)| {
        let tasks = group.tasks.iter().flat_map(move |task| {
            let adjudication =
                (*task == group.tasks[0]).then(|| ("alice", format!("/adjudication/{task}")));
            let page = ("alice", format!("/tasks/{task}"));
            [Some(page), adjudication].into_iter().flatten()
        });
        let pages = group.pages.iter().map(|page| ("lena", page.clone()));
        let differences = format!("{}/differences?a=1&b=3", group.pages[0]);
        let own: Vec<(&str, String)> = pages.chain([("lena", differences)]).chain(tasks).collect();
        own.into_iter()
            .map(move |(by, path)| (by, path, format!("group-{number}")))
    });
    let lists = PAGES.iter().map(|(route, by, address)| {
        let name = route.replace(['/', '{', '}', '*'], "-");
        (*by, address(&world), name)
    });
    // Who is no longer signed in comes first, and each of the others in one go.
    let mut stops: Vec<(&str, String, String)> = lists.chain(group_pages).collect();
    stops.sort_by_key(|(by, ..)| *by);

    let mut faults = Vec::new();
    for (kind, size) in [(Kind::Phone, "narrow"), (Kind::Desktop, "wide")] {
        let browser = chrome.watch(kind, program.folder.path()).await;
        let mut who = "";
        for (index, (by, path, name)) in stops.iter().enumerate() {
            // On a desk the longest texts and the shortest are enough.
            if kind == Kind::Desktop && name.starts_with("group-") && name != "group-0" {
                continue;
            }
            if who != *by {
                become_somebody(&browser, &db, &program, by).await;
                who = by;
            }
            let name = format!("every-{index:03}-{name}-{by}-{size}");
            let (taken, mut wrong) =
                examine(&browser, &format!("{}{path}", program.url), &name).await;
            println!("{name} {path}: {} ms", taken.as_millis());
            wrong.extend(find_overflow(&browser).await);
            if !wrong.is_empty() {
                println!("{wrong:?}");
                faults.push(format!("{name} {path}:\n  {}", wrong.join("\n  ")));
            }
            keep_picture(&browser, &format!("hostile-{name}")).await;
            check_requests(&chrome, &browser, &program, &name).await;
        }
        // The answer to a form says what is wrong with it, and the switch of the language leads away from there.
        become_somebody(&browser, &db, &program, "alice").await;
        browser
            .goto(format!("{}/prompts", program.url))
            .await
            .unwrap();
        let fill = "document.querySelector('#lines').value = arguments[0]";
        browser.execute(fill, vec![json!(lines)]).await.unwrap();
        click(&browser, "#import form button").await;
        wait_for(&browser, ".alert-error td").await;
        let mut wrong = find_complaints(&browser).await;
        wrong.extend(find_overflow(&browser).await);
        if !wrong.is_empty() {
            faults.push(format!("import, {size}:\n  {}", wrong.join("\n  ")));
        }
        keep_picture(&browser, &format!("hostile-every-import-{size}")).await;
        click(&browser, "form[action='/language'] button").await;
        wait_for(&browser, "html[lang='zh'] #lines").await;
        let address = browser.current_url().await.unwrap();
        assert_eq!(address.path(), "/prompts");
        check_requests(&chrome, &browser, &program, size).await;
        browser.quit().await.unwrap();
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(n_reports(&program).await, 0, "a browser refused something");
}
