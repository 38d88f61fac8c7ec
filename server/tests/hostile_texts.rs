//! Adversarial texts on every page that shows texts, in a real Chromium: no script runs, no request leaves,
//! nothing of the page is covered or pushed away, and the page still works.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use rand::SeedableRng;
use serde_json::{Value, json};
use server::domain::form::Form;
use server::domain::ids::{AssignmentId, CompletionId, ProjectId, PromptId};
use server::domain::task::TaskKind;
use server::store;
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::browser::{sign_in, start};
use crate::runs::{queue, record, worker};
use crate::support::browser::{Chrome, Kind, look, wait_for};
use crate::support::hostile::{ask, check_requests, corpus, examine, n_reports};
use crate::support::{TestApp, fake};

/// Stores a prompt, in a language if given, and a ranking task over completions of it.
async fn add_task(
    db: &PgPool,
    project: ProjectId,
    name: &str,
    prompt: &Value,
    language: Option<&str>,
    texts: &[&str],
) {
    let mut transaction = db.begin().await.unwrap();
    let prompt_id = PromptId::new();
    sqlx::query("INSERT INTO prompts (id, project_id, external_id, body, language) VALUES ($1, $2, $3, $4, $5)")
        .bind(prompt_id.0)
        .bind(project.0)
        .bind(name)
        .bind(prompt)
        .bind(language)
        .execute(&mut *transaction)
        .await
        .unwrap();
    let mut completions = Vec::new();
    for text in texts {
        let id = CompletionId::new();
        sqlx::query(
            "INSERT INTO completions (id, prompt_id, text, model) VALUES ($1, $2, $3, 'm')",
        )
        .bind(id.0)
        .bind(prompt_id.0)
        .bind(text)
        .execute(&mut *transaction)
        .await
        .unwrap();
        completions.push(id);
    }
    if !completions.is_empty() {
        store::tasks::insert(
            &mut transaction,
            project,
            prompt_id,
            TaskKind::Rank,
            None,
            &completions,
        )
        .await
        .unwrap();
    }
    transaction.commit().await.unwrap();
}

/// Leases the next task for Ada, in the order of the display that the file has.
async fn lease(db: &PgPool, project: ProjectId) -> Option<AssignmentId> {
    let mut connection = db.acquire().await.unwrap();
    let ada = store::accounts::find_by_email(&mut connection, "ada@example.org")
        .await
        .unwrap()
        .unwrap();
    // The page fetched one ahead.
    let held = store::assignments::find_open(&mut connection, ada.id).await;
    if let Some((id, _)) = held.unwrap() {
        return Some(id);
    }
    let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
    let lease = store::queue::lease(&mut connection, project, ada.id, &mut rng)
        .await
        .unwrap()?;
    Some(lease.assignment_id)
}

async fn skip(db: &PgPool, id: AssignmentId) {
    let mut connection = db.acquire().await.unwrap();
    let ada = store::accounts::find_by_email(&mut connection, "ada@example.org")
        .await
        .unwrap()
        .unwrap();
    let reason = Form::default().skip_reasons[0].key.clone();
    store::assignments::skip(&mut connection, id, ada.id, &reason, "")
        .await
        .unwrap();
}

/// Which controls of the ranking page cannot be clicked where they are, because something is above them.
const COVERED: &str = "
    const controls = [...document.querySelectorAll('#rank-form .choice input, #submit, main summary, .site-head button')]
      .filter((control) => control.checkVisibility() && !control.closest('.flags'));
    const places = new Set();
    const covered = controls.filter((control) => {
      // The first and the last of each part stand for it.
      const part = control.closest('fieldset') ?? control;
      if (places.has(part) && control.closest('.choice')?.nextElementSibling) return false;
      places.add(part);
      control.scrollIntoView({ block: 'center', behavior: 'instant' });
      const box = control.getBoundingClientRect();
      if (box.width < 20 || box.height < 20) return true;
      const found = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
      const own = control.closest('.choice') ?? control;
      return !own.contains(found);
    });
    scrollTo({ top: 0, behavior: 'instant' });
    return [String(controls.length), ...covered.map((control) => `${control.localName} ${control.name ?? ''} ${control.textContent.slice(0, 40)}`)]";

/// Opens a page and checks it; says how long the browser took.
async fn visit(browser: &WebDriver, url: &str, name: &str) -> Duration {
    let (taken, wrong) = examine(browser, url, name).await;
    assert!(wrong.is_empty(), "{name}: {wrong:?}");
    look(browser, &format!("hostile-{name}")).await;
    taken
}

/// Checks that Ada can still do her work: nothing covers a control, and her keys reach the cards.
async fn check_controls(browser: &WebDriver, name: &str) {
    let covered = ask(browser, COVERED).await;
    let n_controls: usize = covered[0].parse().unwrap();
    assert!(n_controls > 40, "{name}: {n_controls} controls");
    assert_eq!(covered[1..], [""; 0], "{name}: something is above these");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn hostile_prompts_and_completions_do_nothing_to_the_ranking_page(db: PgPool) {
    let project = fake::project(&db, 0, 4, 1, 36_000).await;
    let corpus = corpus();
    // Eight texts are one task: as the turns of its prompt, and as its candidates.
    for (index, chunk) in corpus.chunks(8).enumerate() {
        let turns: Vec<Value> = chunk
            .iter()
            .enumerate()
            .map(|(turn, (_, text))| {
                let role = if turn % 2 == 0 { "user" } else { "assistant" };
                json!({"role": role, "content": text})
            })
            .collect();
        let mut texts: Vec<&str> = chunk.iter().map(|(_, text)| text.as_str()).collect();
        while texts.len() < 4 {
            texts.push("an ordinary answer");
        }
        add_task(
            &db,
            project,
            &format!("chunk {index}"),
            &Value::Array(turns),
            Some("\" onload=x"),
            &texts,
        )
        .await;
    }
    let program = start(&db, &["--no-worker"]).await;
    fake::acknowledge(&db).await;
    let chrome = Chrome::start().await;
    let wide = chrome.watch(Kind::Desktop, program.folder.path()).await;
    let phone = chrome.watch(Kind::Phone, program.folder.path()).await;
    for browser in [&wide, &phone] {
        sign_in(browser, &db, &program, "ada@example.org").await;
    }
    let mut index = 0;
    while let Some(id) = lease(&db, project).await {
        let url = format!("{}/rank/{id}", program.url);
        for (browser, size) in [(&wide, "wide"), (&phone, "narrow")] {
            let name = format!("rank-{index}-{size}");
            let taken = visit(browser, &url, &name).await;
            // Of texts of a megabyte there are three in one task, as prompts and as candidates.
            println!("{name}: {} ms", taken.as_millis());
            assert!(taken < Duration::from_secs(60), "{name}: {taken:?}");
            check_controls(browser, &name).await;
            check_requests(&chrome, browser, &program, &name).await;
        }
        // The keys still reach the cards, whatever took the focus or their names.
        wait_for(&wide, ".has-script #rank-form").await;
        wide.action_chain()
            .send_keys("j")
            .send_keys("2")
            .perform()
            .await
            .unwrap();
        wait_for(&wide, "#rank-2 input[value='2']:checked").await;
        skip(&db, id).await;
        index += 1;
    }
    assert_eq!(index, corpus.len().div_ceil(8));
    assert_eq!(n_reports(&program).await, 0, "a browser refused something");

    // The watchers watch: what our policy forbids is seen by both.
    let forbidden = "const image = new Image(); image.src = 'https://evil.example/x.png'; document.body.append(image); \
                     document.body.setAttribute('style', 'color: red'); return []";
    ask(&wide, forbidden).await;
    let started = Instant::now();
    while n_reports(&program).await < 2 {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "no report arrived"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let violations = ask(&wide, "return window.violations").await;
    assert!(
        violations
            .iter()
            .any(|line| line.starts_with("img-src https://evil.example/")),
        "{violations:?}"
    );
    assert!(
        violations.iter().any(|line| line.starts_with("style-src")),
        "{violations:?}"
    );
    wide.quit().await.unwrap();
    phone.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn hostile_texts_do_nothing_to_the_pages_of_admins_and_operators(db: PgPool) {
    let run = queue(&db, 1).await[0];
    let mut connection = db.acquire().await.unwrap();
    let project = store::projects::find_by_slug(&mut connection, "study")
        .await
        .unwrap()
        .unwrap()
        .id;
    drop(connection);
    let corpus = corpus();
    for (name, text) in &corpus {
        let texts = [text.as_str(); 4];
        add_task(&db, project, name, &json!(text), None, &texts).await;
    }
    // Guidelines are the admins' own, and yet pasted from anywhere.
    let short: Vec<&str> = corpus
        .iter()
        .map(|(_, text)| text.as_str())
        .filter(|text| text.len() < 2_000)
        .collect();
    let mut connection = db.acquire().await.unwrap();
    let guidelines = json!({"en": short.join("\n\n"), "zh": ""});
    store::projects::insert_guidelines(&mut connection, project, &guidelines, None)
        .await
        .unwrap();
    drop(connection);
    let program = start(&db, &["--no-worker"]).await;
    sqlx::query("UPDATE runs SET kind = 'generation'")
        .execute(&db)
        .await
        .unwrap();
    worker(&db, "w").claim_next().await.unwrap().unwrap();
    let mut samples = Vec::new();
    for (_, text) in corpus.iter().filter(|(_, text)| text.len() < 200_000) {
        let data = json!({"prompt": text, "completion": text, "is_finished": false});
        samples.push(("sample".to_owned(), json!({"step": 0, "data": data})));
    }
    record(&db, run, "w", &samples).await;

    let chrome = Chrome::start().await;
    for (kind, size) in [(Kind::Desktop, "wide"), (Kind::Phone, "narrow")] {
        let browser = chrome.watch(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, "alice@example.org").await;
        for page in ["prompts", "tasks"] {
            let mut url = format!("{}/{page}", program.url);
            let mut n_pages = 0;
            loop {
                visit(&browser, &url, &format!("{page}-{n_pages}-{size}")).await;
                n_pages += 1;
                let Ok(next) = browser.find(By::Css("button[name='before']")).await else {
                    break;
                };
                let before = next.attr("value").await.unwrap().unwrap();
                url = format!("{}/{page}?project=study&before={before}", program.url);
            }
            // There is one prompt more, of the run.
            assert_eq!(n_pages, (corpus.len() + 1).div_ceil(50), "{page}");
        }
        visit(
            &browser,
            &format!("{}/guidelines", program.url),
            &format!("guidelines-{size}"),
        )
        .await;
        check_requests(&chrome, &browser, &program, size).await;
        sign_in(&browser, &db, &program, "olga@example.org").await;
        visit(
            &browser,
            &format!("{}/runs/{run}", program.url),
            &format!("run-{size}"),
        )
        .await;
        check_requests(&chrome, &browser, &program, size).await;
        browser.quit().await.unwrap();
    }
    assert_eq!(n_reports(&program).await, 0, "a browser refused something");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_text_reads_from_its_own_side_folds_when_long_and_can_be_seen_as_it_is(db: PgPool) {
    let project = fake::project(&db, 0, 4, 1, 3600).await;
    let arabic = "# عنوان\n\nهذا نص عربي.\n\n- بند\n\n```python\nprint(1)\n```";
    let long = "A paragraph of **ordinary** prose, with `code`.\n\n".repeat(600);
    let good = "# Sorting\n\nUse `sorted`:\n\n```python\ndef top(items, n=3):\n    \"\"\"The largest n.\"\"\"\n    \
        return sorted(items)[-n:]  # in order\n```\n\nIt takes $O(n \\log n)$ comparisons, unlike the $5 and $10 plans:\n\n\
        $$\\log_2 n! = \\sum_{k=1}^{n} \\log_2 k \\approx \\boxed{n \\log_2 n - \\frac{n}{\\ln 2}}$$\n\n\
        | Method | Returns | Time |\n|---|:-:|---:|\n| `sorted` | new list | 1.25 |\n| `list.sort` | `None` | 10.5 |\n\n\
        1. First\n2. Second\n   - [x] done\n   - [ ] open\n\n> A quote with ~~struck~~ words.\n\n\
        See [the manual](https://docs.example.org/sorting \"HOWTO\") and ![a picture](https://evil.example/p.png).[^1]\n\n[^1]: A note.\n\n\
        $$\\begin{aligned} f(x) &= \\begin{cases} x^2 & x > 0 \\\\ 0 & \\text{otherwise} \\end{cases} \\\\ \
        A &= \\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}, \\quad \\cancel{a} \\hat{x} \\vec{v} \\end{aligned}$$";
    let invisible = "user\u{202E}nimda, pass\u{200B}word\n\n[//]: # (Markdown hides this)";
    let prompt =
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": arabic}]);
    add_task(
        &db,
        project,
        "good",
        &prompt,
        Some("ar"),
        &[arabic, &long, good, invisible],
    )
    .await;
    let program = start(&db, &["--no-worker"]).await;
    fake::acknowledge(&db).await;
    let id = lease(&db, project).await.unwrap();
    sqlx::query("UPDATE assignments SET display_order = '{0,1,2,3}'")
        .execute(&db)
        .await
        .unwrap();
    let chrome = Chrome::start().await;
    for (kind, size) in [
        (Kind::Desktop, "wide"),
        (Kind::Phone, "narrow"),
        (Kind::WithoutScript, "without-script"),
    ] {
        let browser = chrome.watch(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, "ada@example.org").await;
        browser
            .goto(format!("{}/rank/{id}", program.url))
            .await
            .unwrap();
        wait_for(&browser, "h1").await;
        look(&browser, &format!("texts-{size}")).await;
        let css = |position: usize, rest: &str| format!("[data-position='{position}'] {rest}");
        // A long text says that it is cut off, and unfolds without a script.
        let folded = wait_for(&browser, &css(2, ".long"))
            .await
            .rect()
            .await
            .unwrap()
            .height;
        let summary = wait_for(&browser, &css(2, ".long > summary")).await;
        assert!(summary.text().await.unwrap().contains("Show all"));
        summary.send_keys(Key::Enter).await.unwrap();
        wait_for(&browser, &css(2, ".long[open]")).await;
        let unfolded = wait_for(&browser, &css(2, ".long"))
            .await
            .rect()
            .await
            .unwrap()
            .height;
        assert!(
            folded > 300.0 && folded < 900.0 && unfolded > 10.0 * folded,
            "{folded} {unfolded}"
        );
        assert!(summary.text().await.unwrap().contains("Show less"));
        // What Markdown hides is open as it is; what is invisible has a name.
        let raw = wait_for(&browser, &css(4, "details[open] .raw"))
            .await
            .text()
            .await
            .unwrap();
        assert!(
            raw.contains("(Markdown hides this)") && raw.contains("U+202E"),
            "{raw}"
        );
        let shown = wait_for(&browser, &css(4, ".rendered"))
            .await
            .text()
            .await
            .unwrap();
        assert!(
            shown.contains("U+202E") && !shown.contains('\u{202E}'),
            "{shown}"
        );
        if kind != Kind::WithoutScript {
            let sides = ask(
                &browser,
                "const side = (css) => getComputedStyle(document.querySelector(css)).direction; \
                 return [side('.candidate .rendered > p'), side('.candidate .rendered > ul'), side('.candidate pre'), \
                 document.querySelector('.prompt .text').lang, \
                 String(document.querySelector('.candidate .rendered > p').dir)]",
            )
            .await;
            assert_eq!(sides, ["rtl", "rtl", "ltr", "ar", "auto"]);
            assert_eq!(ask(&browser, "return window.violations").await, [""; 0]);
        }
        check_requests(&chrome, &browser, &program, size).await;
        browser.quit().await.unwrap();
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn halves_of_surrogates_and_nulls_are_refused_by_line_when_they_come_in(db: PgPool) {
    fake::project(&db, 0, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    for text in [r"\ud800", r"a\udfffb", r"\ud83d x", r"a\u0000b"] {
        let line = format!("{{\"id\": \"a\", \"prompt\": \"{text}\"}}");
        let mut body = String::new();
        for (name, value) in [
            ("project", "study"),
            ("kind", "prompts"),
            ("format", "jsonl"),
            ("lines", line.as_str()),
        ] {
            body.push_str(&format!(
                "--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
        body.push_str("--x--\r\n");
        let request = admin
            .request("POST", "/prompts/import")
            .header(CONTENT_TYPE, "multipart/form-data; boundary=x");
        let answer = admin.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{text}: {}",
            answer.body
        );
        assert!(
            answer.body.contains("class=\"number\">1</td>"),
            "{text}: {}",
            answer.body
        );
    }
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM prompts")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(n, 0);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_report_of_a_browser_is_taken_from_anybody_and_nothing_larger(db: PgPool) {
    let app = TestApp::new(db);
    let send = async |body: String| {
        let anybody = app.anonymous();
        let request = anybody
            .request("POST", "/csp-reports")
            .header(CONTENT_TYPE, "application/csp-report");
        anybody
            .send(request.body(Body::from(body)).unwrap())
            .await
            .status
    };
    let report = json!({"csp-report": {"effective-directive": "img-src", "blocked-uri": "https://evil.example"}});
    assert_eq!(send(report.to_string()).await, StatusCode::NO_CONTENT);
    assert_eq!(
        send("{}".to_owned()).await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        send("x".repeat(20_000)).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}
