//! Writing and reviewing in a real Chromium: by keyboard, by touch at 390 px, without JavaScript, from
//! right to left and in Chinese; and the page on which tasks are opened.

use serde_json::{Value, json};
use server::domain::ids::ProjectId;
use server::domain::role::Role;
use server::domain::task::TaskKind;
use server::store;
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::support::browser::{
    Chrome, Kind, check_accessible, choose, click, look, set_network, wait_for, wait_for_address,
    wait_for_text,
};
use crate::support::fake;
use crate::support::program::Program;

const DEMONSTRATE: TaskKind = TaskKind::Demonstrate;

const USE_CASE: &str = "A bakery answers letters of its guests: thanks, complaints, and questions about what is in a cake. \
    Answers should be short, warm, and never promise anything that the bakery cannot keep.";

const PROMPT: &str = "Write to Ada Quill, ada@example.org, that her **blue** bicycle is ready.\n\n\
    - It has new brakes.\n- The bell is still missing.";

/// A running program with a labeler, an admin and a project without ranking tasks.
async fn start(db: &PgPool) -> (Program, ProjectId) {
    let project = fake::project(db, 0, 4, 1, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    for (name, role) in [("ada", Role::Labeler), ("alice", Role::Admin)] {
        let email = format!("{name}@example.org");
        store::accounts::insert(&mut connection, &email, name, &[role], false)
            .await
            .unwrap();
    }
    drop(connection);
    fake::acknowledge(db).await;
    (Program::start(db, &["--no-worker"]).await, project)
}

/// Signs in by a single-use link.
async fn sign_in(browser: &WebDriver, db: &PgPool, program: &Program, name: &str) {
    let mut connection = db.acquire().await.unwrap();
    let email = format!("{name}@example.org");
    let account = store::accounts::find_by_email(&mut connection, &email)
        .await
        .unwrap()
        .unwrap();
    let link = store::sign_in_links::create(&mut connection, account.id, None, 1)
        .await
        .unwrap();
    let address = format!("{}/sign-in/{}", program.url, link.reveal());
    browser.goto(address).await.unwrap();
    click(browser, "main form button").await;
    wait_for(browser, "form[action='/sign-out']").await;
}

/// Leases the next task by the page; where a script runs, waits until it does.
async fn begin(browser: &WebDriver, program: &Program, has_script: bool) {
    browser.goto(format!("{}/work", program.url)).await.unwrap();
    click(browser, "main form[action='/work'] button").await;
    let form = match has_script {
        true => ".has-script #answer-form",
        false => "#answer-form",
    };
    wait_for(browser, form).await;
}

async fn press(browser: &WebDriver, keys: impl Into<TypingData>) {
    let chain = browser.action_chain().send_keys(keys);
    chain.perform().await.unwrap();
}

async fn press_with(browser: &WebDriver, held: Key, key: impl Into<TypingData>) {
    let chain = browser.action_chain().key_down(held.clone()).send_keys(key);
    chain.key_up(held).perform().await.unwrap();
}

/// The name of the field that has the focus, its value where several share the name.
async fn focused(browser: &WebDriver) -> String {
    let script = "const field = document.activeElement; \
                  return field.name + (field.type === 'radio' || field.value && field.tagName === 'BUTTON' ? '=' + field.value : '')";
    let found = browser.execute(script, Vec::new()).await.unwrap();
    found.convert().unwrap()
}

/// Goes on by Tab until a field has the focus.
async fn tab_to(browser: &WebDriver, name: &str) {
    for _ in 0..80 {
        if focused(browser).await == name {
            return;
        }
        press(browser, Key::Tab).await;
    }
    panic!("no Tab leads to {name}");
}

async fn type_into(browser: &WebDriver, name: &str, text: &str) {
    let css = format!("[name='{name}']");
    wait_for(browser, &css).await.send_keys(text).await.unwrap();
}

/// What was submitted last.
async fn newest(db: &PgPool, table: &str) -> Value {
    let statement = match table {
        "writings" => "SELECT content FROM writings ORDER BY created_at DESC LIMIT 1",
        _ => "SELECT content FROM reviews ORDER BY created_at DESC LIMIT 1",
    };
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_few_shot_demonstration_is_written_by_keyboard_and_its_draft_resumes_elsewhere(
    db: PgPool,
) {
    let (program, project) = start(&db).await;
    let brief = json!({"kind": "few_shot"});
    fake::task(&db, project, DEMONSTRATE, None, Some(brief)).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "ada").await;
    begin(&browser, &program, true).await;
    check_accessible(&browser).await;
    tab_to(&browser, "instruction").await;
    press(&browser, "Give the capital.").await;
    wait_for_text(
        &browser,
        "#count-instruction",
        "Words: 3. Characters: 17 of at most 10000.",
    )
    .await;
    press(&browser, Key::Tab).await;
    assert_eq!(focused(&browser).await, "category=generation");
    press(&browser, Key::Right).await;
    press(&browser, Key::Tab).await;
    assert_eq!(focused(&browser).await, "language");
    press(&browser, "Eng").await;
    for text in ["France", "Paris", "Peru", "Lima"] {
        press(&browser, Key::Tab).await;
        press(&browser, text).await;
    }
    tab_to(&browser, "action=add_pair").await;
    press(&browser, Key::Enter).await;
    assert_eq!(focused(&browser).await, "pairs[2].query");
    press(&browser, "Japan").await;
    wait_for_text(&browser, "#draft-status", "Draft saved").await;
    check_accessible(&browser).await;
    look(&browser, "demonstrate-few-shot").await;

    // On another device, as far as it came.
    let other = chrome.open(Kind::Phone, program.folder.path()).await;
    sign_in(&other, &db, &program, "ada").await;
    other.goto(format!("{}/work", program.url)).await.unwrap();
    wait_for(&other, ".has-script [name='pairs[2].query']").await;
    for (name, text) in [("pairs[2].query", "Japan"), ("pairs[1].response", "Lima")] {
        let field = wait_for(&other, &format!("[name='{name}']")).await;
        assert_eq!(field.prop("value").await.unwrap().as_deref(), Some(text));
    }
    type_into(&other, "pairs[2].response", "Tokyo").await;
    wait_for_text(&other, "#draft-status", "Draft saved").await;
    look(&other, "demonstrate-few-shot-narrow").await;
    other.quit().await.unwrap();

    // The first window notices, and loads the newer one.
    press(&browser, "!").await;
    wait_for_text(&browser, "#draft-status", "newer draft").await;
    click(&browser, "#draft-choice a").await;
    wait_for(&browser, ".has-script #answer-form").await;
    let field = wait_for(&browser, "[name='pairs[2].response']").await;
    assert_eq!(field.prop("value").await.unwrap().as_deref(), Some("Tokyo"));
    // Taken away in the middle, the others stay in their order.
    tab_to(&browser, "action=remove_pair-2").await;
    press(&browser, Key::Enter).await;
    let gone = browser.find(By::Css("[name='pairs[2].query']")).await;
    assert!(gone.is_err(), "two are left");
    press_with(&browser, Key::Control, Key::Enter).await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    let expected = json!({
        "instruction": "Give the capital.", "category": "open_qa", "language": "en",
        "pairs": [{"query": "France", "response": "Paris"}, {"query": "Japan", "response": "Tokyo"}],
    });
    assert_eq!(newest(&db, "writings").await, expected);
    let active: i64 = sqlx::query_scalar("SELECT active_ms FROM writings")
        .fetch_one(&db)
        .await
        .unwrap();
    assert!(active > 0, "the time in the task was counted");
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_prompt_is_reviewed_by_keyboard_and_marked_words_are_quoted(db: PgPool) {
    let (program, project) = start(&db).await;
    for _ in 0..2 {
        fake::task(&db, project, TaskKind::Review, Some(PROMPT), None).await;
    }
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "ada").await;
    begin(&browser, &program, true).await;
    check_accessible(&browser).await;
    tab_to(&browser, "category=generation").await;
    for _ in 0..4 {
        press(&browser, Key::Right).await;
    }
    press(&browser, Key::Tab).await;
    press(&browser, "Eng").await;
    // Ambiguous: no, from "not answered" one step back.
    tab_to(&browser, "flags.ambiguous=").await;
    press(&browser, Key::Left).await;
    tab_to(&browser, "personal_data=").await;
    press(&browser, Key::Right).await;
    tab_to(&browser, "found[0].kind").await;
    press(&browser, "E-mail").await;
    press(&browser, Key::Tab).await;
    press(&browser, "ada@example.org").await;
    // Enter in a line of text sends nothing.
    press(&browser, Key::Enter).await;
    wait_for_text(&browser, "#draft-status", "Draft saved").await;
    // Words of the prompt, marked with the mouse or by touch.
    let script = "const text = document.querySelector('.given .rendered p').firstChild; \
                  getSelection().setBaseAndExtent(text, 9, text, 18)";
    browser.execute(script, Vec::new()).await.unwrap();
    click(&browser, "#quote").await;
    assert_eq!(focused(&browser).await, "found[1].kind");
    press(&browser, "Name").await;
    wait_for_text(&browser, "#draft-status", "Draft saved").await;
    look(&browser, "review").await;
    check_accessible(&browser).await;
    let before = browser.current_url().await.unwrap().to_string();
    press_with(&browser, Key::Control, Key::Enter).await;
    // The next task follows at once.
    wait_for_text(&browser, "main", "1 submitted").await;
    let after = browser.current_url().await.unwrap().to_string();
    assert!(after.contains("/review/") && after != before, "{after}");
    let expected = json!({
        "category": "rewrite", "language": "en", "flags": {"ambiguous": false}, "personal_data": true,
        "found": [{"kind": "email", "passage": "ada@example.org"}, {"kind": "name", "passage": "Ada Quill"}],
    });
    assert_eq!(newest(&db, "reviews").await, expected);

    // The last one can be corrected from here.
    click(&browser, "main a[href^='/review/']").await;
    wait_for(&browser, ".has-script [name='replaces'][value='1']").await;
    wait_for(&browser, "[name='flags.ambiguous'][value='no']:checked").await;
    check_accessible(&browser).await;
    look(&browser, "review-correction").await;
    click(&browser, "[name='flags.ambiguous'][value='yes']").await;
    wait_for_text(&browser, "#draft-status", "Draft saved").await;
    click(&browser, "#submit").await;
    wait_for_address(&browser, after.rsplit('/').next().unwrap()).await;
    assert_eq!(newest(&db, "reviews").await["flags"]["ambiguous"], true);
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn on_a_phone_in_chinese_the_use_case_stays_in_sight(db: PgPool) {
    let (program, project) = start(&db).await;
    let brief = json!({"kind": "user_based", "use_case": USE_CASE});
    fake::task(&db, project, DEMONSTRATE, None, Some(brief)).await;
    fake::task(
        &db,
        project,
        TaskKind::Review,
        Some("请给李雷写一封信，电话 010-5555。"),
        None,
    )
    .await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Phone, program.folder.path()).await;
    sign_in(&browser, &db, &program, "ada").await;
    click(&browser, "button[name='lang'][value='zh']").await;
    wait_for(&browser, "html[lang='zh']").await;
    begin(&browser, &program, true).await;
    look(&browser, "demonstrate-use-case-zh-narrow").await;
    type_into(&browser, "prompt", "有客人说蛋糕太甜，请写一封简短的回信。").await;
    click(&browser, "[name='category'][value='generation']").await;
    choose(&browser, "#language", "zh").await;
    type_into(&browser, "response", &"谢谢您的来信。\n".repeat(30)).await;
    wait_for_text(&browser, "#count-response", "字符数：240").await;
    let script = "document.querySelector('#submit').scrollIntoView({block: 'end', behavior: 'instant'}); \
                  const place = document.querySelector('.given').getBoundingClientRect(); \
                  return place.top >= -1 && place.height > 40 && place.bottom < innerHeight / 2";
    let in_sight = browser.execute(script, Vec::new()).await.unwrap();
    assert!(
        in_sight.convert::<bool>().unwrap(),
        "the use case scrolled away"
    );
    check_accessible(&browser).await;
    click(&browser, "#submit").await;
    wait_for_address(&browser, "/review/").await;
    assert_eq!(newest(&db, "writings").await["language"], "zh");
    wait_for(&browser, ".has-script #answer-form").await;
    click(&browser, "[name='category'][value='generation']").await;
    choose(&browser, "#language", "zh").await;
    click(&browser, "[name='personal_data'][value='no']").await;
    wait_for_text(&browser, "#draft-status", "草稿已保存").await;
    check_accessible(&browser).await;
    look(&browser, "review-zh-narrow").await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, "h1", "没有等待的任务").await;
    assert_eq!(newest(&db, "reviews").await["personal_data"], false);
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_text_from_right_to_left_is_written_so_and_waits_for_the_network(db: PgPool) {
    let (program, project) = start(&db).await;
    fake::task(&db, project, DEMONSTRATE, Some("מה השעה בירושלים?"), None).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "ada").await;
    begin(&browser, &program, true).await;
    type_into(&browser, "response", "השעה עכשיו שלוש.").await;
    let script = "const way = (css) => getComputedStyle(document.querySelector(css)).direction; \
                  return [way('.given .rendered > *'), way('[name=response]'), way('main')]";
    let ways = browser.execute(script, Vec::new()).await.unwrap();
    assert_eq!(
        ways.convert::<Vec<String>>().unwrap(),
        ["rtl", "rtl", "ltr"]
    );
    wait_for_text(&browser, "#count-response", "Words: 3.").await;
    wait_for_text(&browser, "#draft-status", "Draft saved").await;
    check_accessible(&browser).await;
    look(&browser, "demonstrate-rtl").await;
    // Without a network nothing is lost: what was submitted is kept, and sent by itself.
    set_network(&browser, true).await;
    press_with(&browser, Key::Control, Key::Enter).await;
    wait_for_text(&browser, "#draft-status", "will be sent by itself").await;
    assert_eq!(n_writings(&db).await, 0);
    set_network(&browser, false).await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    wait_for_text(&browser, "main", "Submitted.").await;
    assert_eq!(
        newest(&db, "writings").await["response"],
        "השעה עכשיו שלוש."
    );
    browser.quit().await.unwrap();
}

async fn n_writings(db: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM writings")
        .fetch_one(db)
        .await
        .unwrap()
}

/// Closes the window in sight and goes on in another, whose network is whole.
async fn close_and_open(browser: &WebDriver) {
    let other = browser.new_tab().await.unwrap();
    browser.close_window().await.unwrap();
    browser.switch_to_window(other).await.unwrap();
}

/// The value of a field.
async fn value(browser: &WebDriver, name: &str) -> String {
    let field = wait_for(browser, &format!("[name='{name}']")).await;
    field.prop("value").await.unwrap().unwrap_or_default()
}

async fn run(browser: &WebDriver, script: &str) -> Value {
    let found = browser.execute(script, Vec::new()).await.unwrap();
    found.json().clone()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_window_that_is_closed_without_a_network_loses_nothing(db: PgPool) {
    let (mut program, project) = start(&db).await;
    let brief = json!({"kind": "few_shot", "instruction": "Give the capital."});
    fake::task(&db, project, DEMONSTRATE, None, Some(brief)).await;
    fake::task(&db, project, TaskKind::Review, Some(PROMPT), None).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "ada").await;
    begin(&browser, &program, true).await;
    let page = browser.current_url().await.unwrap();
    type_into(&browser, "pairs[0].query", "France").await;
    wait_for_text(&browser, "#draft-status", "Draft saved").await;
    set_network(&browser, true).await;
    type_into(&browser, "pairs[0].response", "Paris").await;
    click(&browser, "[data-add]").await;
    type_into(&browser, "pairs[2].query", "Japan").await;
    click(&browser, "[name='category'][value='open_qa']").await;
    wait_for_text(&browser, "#draft-status", "No connection").await;
    look(&browser, "demonstrate-offline").await;
    close_and_open(&browser).await;

    // It stands in the form again, lists and all, and is saved.
    browser.goto(page.as_str()).await.unwrap();
    wait_for_text(&browser, "#notices", "could not save").await;
    assert_eq!(value(&browser, "pairs[0].query").await, "France");
    assert_eq!(value(&browser, "pairs[0].response").await, "Paris");
    assert_eq!(value(&browser, "pairs[2].query").await, "Japan");
    wait_for(&browser, "[name='category'][value='open_qa']:checked").await;
    wait_for(&browser, "#draft-status[data-state='saved']").await;
    look(&browser, "demonstrate-brought-back").await;
    check_accessible(&browser).await;
    assert_eq!(run(&browser, "return localStorage.length").await, 0);

    // Any page sends what an earlier one kept.
    set_network(&browser, true).await;
    type_into(&browser, "pairs[2].response", "Tokyo").await;
    wait_for_text(&browser, "#draft-status", "No connection").await;
    close_and_open(&browser).await;
    let account = format!("{}/account", program.url);
    browser.goto(account.as_str()).await.unwrap();
    wait_until_nothing_is_kept(&browser).await;
    let draft: Value = sqlx::query_scalar("SELECT draft FROM assignments")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(draft["pairs"][2]["response"], "Tokyo");

    // Where another window went on meanwhile, the labeler decides.
    browser.goto(page.as_str()).await.unwrap();
    wait_for(&browser, ".has-script #answer-form").await;
    set_network(&browser, true).await;
    type_into(&browser, "note", "mine").await;
    wait_for_text(&browser, "#draft-status", "No connection").await;
    close_and_open(&browser).await;
    sqlx::query("UPDATE assignments SET draft = draft || '{\"note\": \"newer\"}', draft_revision = draft_revision + 1")
        .execute(&db)
        .await
        .unwrap();
    browser.goto(account.as_str()).await.unwrap();
    wait_for_text(&browser, "main", "a newer draft stands there").await;
    look(&browser, "draft-left").await;
    click(&browser, "main a[href^='/demonstrate/']").await;
    wait_for(&browser, "#draft-choice:not([hidden])").await;
    assert_eq!(value(&browser, "note").await, "mine");
    click(&browser, "#draft-choice a").await;
    wait_for(&browser, "#draft-choice[hidden]").await;
    assert_eq!(value(&browser, "note").await, "newer");
    assert_eq!(run(&browser, "return localStorage.length").await, 0);

    // A submission is kept, too, when the server goes away and the window after it.
    choose(&browser, "#language", "en").await;
    for (name, text) in [("pairs[1].query", "Peru"), ("pairs[1].response", "Lima")] {
        type_into(&browser, name, text).await;
    }
    wait_for(&browser, "#draft-status[data-state='saved']").await;
    program.kill();
    click(&browser, "#submit").await;
    wait_for_text(&browser, "#draft-status", "kept in this browser").await;
    close_and_open(&browser).await;
    program.restart(&db, &["--no-worker"]).await;
    assert_eq!(n_writings(&db).await, 0);
    browser
        .goto(format!("{}/account", program.url))
        .await
        .unwrap();
    wait_for_text(&browser, "main", "has been submitted").await;
    assert_eq!(
        newest(&db, "writings").await["pairs"],
        json!([{"query": "France", "response": "Paris"}, {"query": "Peru", "response": "Lima"},
               {"query": "Japan", "response": "Tokyo"}])
    );

    // The same of a review.
    begin(&browser, &program, true).await;
    wait_for_address(&browser, "/review/").await;
    let page = browser.current_url().await.unwrap();
    set_network(&browser, true).await;
    click(&browser, "[name='flags.ambiguous'][value='no']").await;
    click(&browser, "[name='personal_data'][value='yes']").await;
    choose(&browser, "[name='found[0].kind']", "name").await;
    wait_for_text(&browser, "#draft-status", "No connection").await;
    close_and_open(&browser).await;
    browser.goto(page.as_str()).await.unwrap();
    wait_for_text(&browser, "#notices", "could not save").await;
    wait_for(&browser, "[name='flags.ambiguous'][value='no']:checked").await;
    wait_for(&browser, "[name='personal_data'][value='yes']:checked").await;
    assert_eq!(value(&browser, "found[0].kind").await, "name");
    wait_for(&browser, "#draft-status[data-state='saved']").await;
    browser.quit().await.unwrap();
}

/// Waits until the browser holds nothing that the server has not.
async fn wait_until_nothing_is_kept(browser: &WebDriver) {
    for _ in 0..600 {
        if run(browser, "return localStorage.length").await == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("something is still kept");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn writing_has_a_lease_a_break_and_a_word_on_what_was_submitted(db: PgPool) {
    let (program, project) = start(&db).await;
    for text in ["Name a colour.", "Name a bird."] {
        fake::task(&db, project, DEMONSTRATE, Some(text), None).await;
    }
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "ada").await;
    begin(&browser, &program, true).await;
    wait_for_text(&browser, "#lease-left", "59 min left").await;
    wait_for_text(&browser, "#lease-until", "Lease until").await;
    wait_for_text(&browser, "#time-spent", "active").await;
    click(&browser, "#break-button").await;
    wait_for_text(&browser, "#break[open]", "59 min left").await;
    check_accessible(&browser).await;
    let spent = "const time = document.querySelector('#answer-form').elements; \
                 return Number(time.active_ms.value) + Number(time.idle_ms.value)";
    let before = run(&browser, spent).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(run(&browser, spent).await, before);
    click(&browser, "#break button").await;
    type_into(&browser, "response", "Blue.").await;
    look(&browser, "demonstrate-lease").await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, "#notices", "Submitted. Back to the last one").await;
    look(&browser, "demonstrate-submitted").await;
    check_accessible(&browser).await;
    let next = browser.current_url().await.unwrap();
    click(&browser, "#notices a").await;
    wait_for_text(&browser, "main", "version 1, as you submitted it").await;
    type_into(&browser, "response", " Or red.").await;
    wait_for_text(&browser, "#edit-draft", "your draft of a correction").await;
    wait_for_text(&browser, "#submit", "Save as version 2").await;
    look(&browser, "demonstrate-correction").await;
    check_accessible(&browser).await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, "#notices", "Version 2 saved.").await;
    assert_eq!(browser.current_url().await.unwrap(), next);
    // The button stays in sight on a phone.
    let phone = chrome.open(Kind::Phone, program.folder.path()).await;
    sign_in(&phone, &db, &program, "ada").await;
    phone.goto(next.as_str()).await.unwrap();
    wait_for_text(&phone, "#lease-left", "min left").await;
    let script = "const {top, bottom} = document.querySelector('#submit').getBoundingClientRect(); \
                  return top > 400 && bottom <= innerHeight";
    assert_eq!(run(&phone, script).await, true);
    look(&phone, "demonstrate-phone").await;
    check_accessible(&phone).await;
    phone.quit().await.unwrap();
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_is_wrong_is_said_beside_its_field_and_too_long_a_text_while_it_is_typed(db: PgPool) {
    let (program, project) = start(&db).await;
    let brief = json!({"kind": "plain"});
    fake::task(&db, project, DEMONSTRATE, None, Some(brief)).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "ada").await;
    begin(&browser, &program, true).await;
    let script = "const field = document.querySelector('[name=response]'); field.value = 'x'.repeat(10001); \
                  field.dispatchEvent(new Event('input', {bubbles: true}))";
    browser.execute(script, Vec::new()).await.unwrap();
    wait_for_text(&browser, "#count-response", "Characters over the limit: 1").await;
    // Too long to be submitted, it is kept all the same.
    wait_for_text(&browser, "#draft-status", "Draft saved").await;
    press_with(&browser, Key::Control, Key::Enter).await;
    wait_for(&browser, ".has-script #errors").await;
    wait_for_text(
        &browser,
        "#errors",
        "Response: is longer than 10000 characters",
    )
    .await;
    wait_for_text(&browser, "#wrong-prompt", "is empty").await;
    let field = wait_for(&browser, "[name='response']").await;
    let kept = field.prop("value").await.unwrap().unwrap();
    assert_eq!(kept.len(), 10001, "what was typed is kept whole");
    check_accessible(&browser).await;
    look(&browser, "demonstrate-wrong").await;
    click(&browser, "#errors a[href='#category']").await;
    let is_there = "return location.hash === '#category'";
    let found = browser.execute(is_there, Vec::new()).await.unwrap();
    assert!(found.convert::<bool>().unwrap());
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn every_kind_is_done_without_javascript(db: PgPool) {
    let (program, project) = start(&db).await;
    let brief = json!({"kind": "few_shot", "instruction": "Give the capital."});
    fake::task(&db, project, DEMONSTRATE, None, Some(brief)).await;
    fake::task(&db, project, DEMONSTRATE, Some("Name a colour."), None).await;
    fake::task(&db, project, TaskKind::Review, Some(PROMPT), None).await;
    let chrome = Chrome::start().await;
    let browser = chrome
        .open(Kind::WithoutScript, program.folder.path())
        .await;
    sign_in(&browser, &db, &program, "ada").await;
    begin(&browser, &program, false).await;
    choose(&browser, "#language", "en").await;
    click(&browser, "[name='category'][value='open_qa']").await;
    for (name, text) in [
        ("pairs[0].query", "France"),
        ("pairs[0].response", "Paris"),
        ("pairs[1].query", "Peru"),
        ("pairs[1].response", "Lima"),
    ] {
        type_into(&browser, name, text).await;
    }
    click(&browser, "button[value='add_pair']").await;
    type_into(&browser, "pairs[2].query", "Japan").await;
    type_into(&browser, "pairs[2].response", "Tokyo").await;
    click(&browser, "button.no-script[value='save']").await;
    wait_for_text(&browser, "[role='status']", "Draft saved").await;
    look(&browser, "demonstrate-without-script").await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, ".given", "Name a colour.").await;
    assert_eq!(
        newest(&db, "writings").await["pairs"][2]["response"],
        "Tokyo"
    );
    click(&browser, "#submit").await;
    wait_for_text(&browser, "#wrong-response", "is empty").await;
    type_into(&browser, "response", "Blue.").await;
    click(&browser, "#submit").await;
    wait_for_address(&browser, "/review/").await;
    click(&browser, "[name='category'][value='rewrite']").await;
    choose(&browser, "#language", "en").await;
    click(&browser, "[name='personal_data'][value='yes']").await;
    choose(&browser, "[name='found[0].kind']", "name").await;
    type_into(&browser, "found[0].passage", "Ada Quill").await;
    click(&browser, "button[value='add_found']").await;
    choose(&browser, "[name='found[1].kind']", "email").await;
    type_into(&browser, "found[1].passage", "ada@example.org").await;
    look(&browser, "review-without-script").await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    assert_eq!(newest(&db, "reviews").await["found"][1]["kind"], "email");
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_opens_tasks_at_a_desk_and_on_a_phone(db: PgPool) {
    let (program, project) = start(&db).await;
    for name in ["p0", "p1", "p2"] {
        fake::prompt(&db, project, name, PROMPT).await;
    }
    let chrome = Chrome::start().await;
    for (kind, size, lang) in [(Kind::Desktop, "wide", "en"), (Kind::Phone, "narrow", "zh")] {
        let browser = chrome.open(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, "alice").await;
        if lang == "zh" {
            click(&browser, "button[name='lang'][value='zh']").await;
            wait_for(&browser, "html[lang='zh']").await;
        }
        browser
            .goto(format!("{}/tasks", program.url))
            .await
            .unwrap();
        click(&browser, "a[href^='/tasks/new']").await;
        wait_for(&browser, ".of-candidates").await;
        look(&browser, &format!("tasks-new-{size}")).await;
        check_accessible(&browser).await;
        // Only what goes with the work is in sight.
        let texts = wait_for(&browser, "#texts").await;
        assert!(!texts.is_displayed().await.unwrap());
        click(&browser, "[name='work'][value='user_based']").await;
        assert!(texts.is_displayed().await.unwrap());
        let lines = format!("{size}: a zoo names its animals.\n{USE_CASE} ({size})");
        texts.send_keys(lines).await.unwrap();
        click(&browser, "button[value='preview']").await;
        wait_for_text(&browser, "#preview", "2").await;
        look(&browser, &format!("tasks-preview-{size}")).await;
        check_accessible(&browser).await;
        click(&browser, "button[value='open']").await;
        wait_for_address(&browser, "opened=2").await;
        look(&browser, &format!("tasks-opened-{size}")).await;
        check_accessible(&browser).await;
        browser
            .goto(format!("{}/snapshots", program.url))
            .await
            .unwrap();
        wait_for(&browser, "[name='include_personal']").await;
        look(&browser, &format!("snapshots-{size}")).await;
        check_accessible(&browser).await;
        browser.quit().await.unwrap();
    }
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM tasks WHERE kind = 'demonstrate'")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(n, 4);
}
