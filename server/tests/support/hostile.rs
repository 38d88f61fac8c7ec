//! The corpus of adversarial texts, and what no page may do with them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Deserialize;
use thirtyfour::prelude::*;

use super::browser::{Chrome, wait_for};
use super::program::Program;

/// An adversarial text of the corpus.
#[derive(Deserialize)]
struct Hostile {
    name: String,
    text: String,
    #[serde(default)]
    before: String,
    #[serde(default)]
    after: String,
    times: Option<usize>,
}

/// The name and the text of each.
pub(crate) fn corpus() -> Vec<(String, String)> {
    let texts: Vec<Hostile> =
        serde_json::from_str(include_str!("../fixtures/hostile_texts.json")).unwrap();
    let whole = |hostile: Hostile| {
        let middle = hostile.text.repeat(hostile.times.unwrap_or(1));
        let text = format!("{}{middle}{}", hostile.before, hostile.after);
        (hostile.name, text)
    };
    texts.into_iter().map(whole).collect()
}

/// The strings that a script returns.
pub(crate) async fn ask(browser: &WebDriver, script: &str) -> Vec<String> {
    let answer = browser.execute(script, Vec::new()).await.unwrap();
    answer.convert().unwrap()
}

/// What a page must not have, as sentences; none when all is well.
const COMPLAINTS: &str = "
    const wrong = [...(window.violations ?? ['nobody watches'])];
    if (window.hostile) wrong.push('a script ran');
    const elements = new Set(('div,p,br,hr,em,strong,del,sup,code,pre,blockquote,ul,ol,li,h4,h5,h6,table,thead,tbody,tr,th,td,' +
      'figure,figcaption,span,details,summary,b,bdi,' +
      'math,mrow,mi,mn,mo,mtext,mspace,msub,msup,msubsup,munder,mover,munderover,mmultiscripts,mprescripts,mfrac,msqrt,mroot,' +
      'mtable,mtr,mtd,mpadded').split(','));
    const attributes = new Set(('class,dir,lang,title,tabindex,start,value,open,display,displaystyle,scriptlevel,mathvariant,' +
      'stretchy,symmetric,movablelimits,form,accent,accentunder,lspace,rspace,minsize,maxsize,linethickness,width').split(','));
    for (const text of document.querySelectorAll('.text, td bdi, .rendered')) {
      for (const element of text.querySelectorAll('*')) {
        if (!elements.has(element.localName)) wrong.push(`<${element.localName}>`);
        for (const { name } of element.attributes) {
          if (!attributes.has(name) || (name === 'form' && element.localName !== 'mo')) wrong.push(`<${element.localName} ${name}>`);
        }
      }
      for (const element of text.querySelectorAll('span, div, p, th, td')) {
        if (['fixed', 'sticky'].includes(getComputedStyle(element).position)) wrong.push(`${element.className} floats`);
      }
    }
    if (document.querySelectorAll('h1').length !== 1 || !document.title.endsWith('· Plackett')) wrong.push('another title');
    if (document.baseURI !== location.href || document.characterSet !== 'UTF-8') wrong.push('another base');
    if (document.querySelectorAll('base, iframe, object, embed, main img, main script:not([src^=\"/static/\"]), main style, main link').length) wrong.push('foreign parts');
    return [...new Set(wrong)]";

/// Opens a page; says how long the browser took, and what the page has that it must not have.
pub(crate) async fn examine(browser: &WebDriver, url: &str, name: &str) -> (Duration, Vec<String>) {
    let started = Instant::now();
    browser
        .goto(url)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    wait_for(browser, "h1").await;
    // Laid out, not only loaded.
    let _ = browser
        .execute("return document.documentElement.scrollHeight", Vec::new())
        .await;
    let taken = started.elapsed();
    (taken, find_complaints(browser).await)
}

/// What the page at hand has that it must not have.
pub(crate) async fn find_complaints(browser: &WebDriver) -> Vec<String> {
    ask(browser, COMPLAINTS).await
}

/// Every request that a watched browser made went to our server.
pub(crate) async fn check_requests(
    chrome: &Chrome,
    browser: &WebDriver,
    program: &Program,
    name: &str,
) {
    let requests = chrome.requests(browser).await;
    assert!(!requests.is_empty(), "{name}: nothing was watched");
    let away: BTreeSet<&String> = requests
        .iter()
        .filter(|url| {
            !url.starts_with(&program.url)
                // Nothing leaves with these: a browser's own pictures, such as a calendar's.
                && !url.starts_with("data:")
                && !url.starts_with("chrome")
        })
        .collect();
    assert!(away.is_empty(), "{name}: {away:?}");
    let paths = [
        "/static/",
        "/rank/",
        "/work",
        "/prompts",
        "/tasks",
        "/runs",
        "/guidelines",
        "/sign-in",
        "/sign-out",
        "/language",
        "/demonstrate/",
        "/review/",
        "/questions",
        "/account",
        "/screening",
        "/adjudication",
        "/attention",
        "/gold",
        "/projects",
        "/agreement",
        "/models",
        "/snapshots",
        "/exports/",
        "/audit",
        "/checkpoints",
        "/api/v1/assignments/",
    ];
    let odd = requests
        .iter()
        .filter_map(|url| url.strip_prefix(&program.url));
    let odd: BTreeSet<&str> = odd
        .filter(|path| *path != "/" && !paths.iter().any(|known| path.starts_with(known)))
        .collect();
    assert!(odd.is_empty(), "{name}: {odd:?}");
}

pub(crate) async fn n_reports(program: &Program) -> usize {
    let metrics = reqwest::get(format!("{}/metrics", program.url))
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    metrics
        .lines()
        .filter(|line| line.starts_with("plackett_csp_reports_total{"))
        .count()
}
