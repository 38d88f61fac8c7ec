//! A real Chromium, driven through ChromeDriver. With `PLACKETT_SCREENSHOTS` set to a folder, every
//! page that a test looks at is kept there as a picture.

use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::json;
use thirtyfour::prelude::*;

/// Longest wait for something that the page is to show.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running ChromeDriver, ended with the test.
pub(crate) struct Chrome {
    driver: Child,
    port: u16,
}

/// An open browser.
pub(crate) struct Browser {
    driver: WebDriver,
}

impl Browser {
    pub(crate) async fn quit(self) -> WebDriverResult<()> {
        self.driver.clone().quit().await
    }
}

impl Deref for Browser {
    type Target = WebDriver;

    fn deref(&self) -> &WebDriver {
        &self.driver
    }
}

impl Drop for Browser {
    /// A test that fails drops its browser while the page may wait for the server, which is dropped by the same
    /// thread: asking the browser to close would wait for that. It ends with its [`Chrome`] instead.
    fn drop(&mut self) {
        let _ = self.driver.clone().leak();
    }
}

/// What kind of browser to open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Desktop,
    Phone,
    WithoutScript,
}

/// The same Chromium built without windows, where it is installed: it starts and draws in less than half the
/// time.
fn headless_shell() -> Option<&'static str> {
    const PATH: &str = "/usr/bin/chromium-headless-shell";
    Path::new(PATH).exists().then_some(PATH)
}

impl Chrome {
    pub(crate) async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver is installed (make test installs it)");
        let url = format!("http://127.0.0.1:{port}/status");
        let started = Instant::now();
        while reqwest::get(&url).await.is_err() {
            assert!(started.elapsed() < PATIENCE, "chromedriver does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { driver, port }
    }

    /// Shows a page in a window of this width and as high as the page, so that a picture has all of it.
    pub(crate) async fn stretch(&self, browser: &WebDriver, width: u32) {
        let emulate = async |height: u32| {
            let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
            let session = browser.session_id();
            let url = format!(
                "http://127.0.0.1:{}/session/{session}/goog/cdp/execute",
                self.port
            );
            let body = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics});
            let answer = reqwest::Client::new()
                .post(url)
                .json(&body)
                .send()
                .await
                .unwrap();
            assert!(
                answer.status().is_success(),
                "{}",
                answer.text().await.unwrap()
            );
        };
        emulate(900).await;
        let script = "return document.documentElement.scrollHeight";
        let height = browser.execute(script, Vec::new()).await.unwrap();
        emulate(height.convert().unwrap()).await;
    }

    /// Opens a browser with a fresh profile; downloads go to `downloads`.
    pub(crate) async fn open(&self, kind: Kind, downloads: &Path) -> Browser {
        self.start_browser(kind, downloads, false).await
    }

    /// The same, and watched: each page's `violations` are what its content security policy refused, and
    /// [`Chrome::requests`] are those that left the browser.
    pub(crate) async fn watch(&self, kind: Kind, downloads: &Path) -> Browser {
        let browser = self.start_browser(kind, downloads, true).await;
        let source = "window.violations = []; addEventListener('securitypolicyviolation', (event) => \
                      window.violations.push(`${event.effectiveDirective} ${event.blockedURI}`))";
        let command =
            json!({"cmd": "Page.addScriptToEvaluateOnNewDocument", "params": {"source": source}});
        self.ask(&browser, "goog/cdp/execute", &command).await;
        browser
    }

    /// The addresses asked for since the last call, by a watched browser's network log.
    pub(crate) async fn requests(&self, browser: &WebDriver) -> Vec<String> {
        let log = self
            .ask(browser, "se/log", &json!({"type": "performance"}))
            .await;
        let sent = |entry: &serde_json::Value| {
            let message: serde_json::Value =
                serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            let is_request = message["method"] == "Network.requestWillBeSent";
            let url = message["params"]["request"]["url"].as_str()?;
            is_request.then(|| url.to_owned())
        };
        log.as_array().unwrap().iter().filter_map(sent).collect()
    }

    /// What ChromeDriver answers to a command of its own.
    async fn ask(
        &self,
        browser: &WebDriver,
        command: &str,
        body: &serde_json::Value,
    ) -> serde_json::Value {
        let session = browser.session_id();
        let url = format!("http://127.0.0.1:{}/session/{session}/{command}", self.port);
        let answer = reqwest::Client::new()
            .post(url)
            .json(body)
            .send()
            .await
            .unwrap();
        let mut answer: serde_json::Value = answer.json().await.unwrap();
        answer["value"].take()
    }

    async fn start_browser(&self, kind: Kind, downloads: &Path, is_watched: bool) -> Browser {
        let mut wanted = DesiredCapabilities::chrome();
        if is_watched {
            let logs = json!({"performance": "ALL"});
            wanted.set("goog:loggingPrefs", logs).unwrap();
        }
        if let Some(shell) = headless_shell() {
            wanted.set_binary(shell).unwrap();
        }
        for flag in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--lang=en",
        ] {
            wanted.add_arg(flag).unwrap();
        }
        // ChromeDriver scrolls by script, so where none runs the whole page must be in sight.
        let height = if kind == Kind::WithoutScript {
            3000
        } else {
            900
        };
        wanted
            .add_arg(&format!("--window-size=1280,{height}"))
            .unwrap();
        let mut prefs = json!({
            "download.default_directory": downloads,
            "intl.accept_languages": "en",
        });
        if kind == Kind::WithoutScript {
            // The one is minded by the whole browser, the other by the one without windows.
            prefs["profile.managed_default_content_settings.javascript"] = json!(2);
            wanted
                .add_arg("--blink-settings=scriptEnabled=false")
                .unwrap();
        }
        wanted.add_experimental_option("prefs", prefs).unwrap();
        if kind == Kind::Phone {
            let metrics = json!({"width": 390, "height": 844, "pixelRatio": 1, "touch": true});
            wanted
                .add_experimental_option("mobileEmulation", json!({"deviceMetrics": metrics}))
                .unwrap();
        }
        let browser = WebDriver::new(format!("http://127.0.0.1:{}", self.port), wanted)
            .await
            .unwrap();
        // The browser without windows minds no preference of downloads.
        let allowed = json!({"behavior": "allow", "downloadPath": downloads});
        let command = json!({"cmd": "Browser.setDownloadBehavior", "params": allowed});
        self.ask(&browser, "goog/cdp/execute", &command).await;
        Browser { driver: browser }
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        // With all browsers that are still open: they are of the driver's process group.
        let _ = Command::new("sh")
            .args(["-c", "kill -s KILL -- -$0", &self.driver.id().to_string()])
            .status();
        let _ = self.driver.wait();
    }
}

/// Waits until the page has an element, and returns it.
pub(crate) async fn wait_for(browser: &WebDriver, css: &str) -> WebElement {
    let started = Instant::now();
    loop {
        if let Ok(element) = browser.find(By::Css(css)).await {
            return element;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "no {css} on {}",
            browser.current_url().await.unwrap()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the element's text contains `text`.
pub(crate) async fn wait_for_text(browser: &WebDriver, css: &str, text: &str) {
    let started = Instant::now();
    loop {
        let found = match browser.find(By::Css(css)).await {
            Ok(element) => element.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        if found.contains(text) {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{css} says {found:?}, not {text:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the browser is at an address that contains `part`.
pub(crate) async fn wait_for_address(browser: &WebDriver, part: &str) {
    let started = Instant::now();
    loop {
        let address = browser.current_url().await.unwrap().to_string();
        if address.contains(part) {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "still at {address}, not at {part}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Clicks the first element, from the middle of the window: what stands at its edge is not always
/// found by the driver while the page is still being laid out.
pub(crate) async fn click(browser: &WebDriver, css: &str) {
    let element = wait_for(browser, css).await;
    let script = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})";
    let arguments = vec![element.to_json().unwrap()];
    browser.execute(script, arguments).await.unwrap();
    element.click().await.unwrap();
}

/// Chooses the option of a select by its value.
pub(crate) async fn choose(browser: &WebDriver, select: &str, value: &str) {
    click(browser, &format!("{select} option[value='{value}']")).await;
}

/// Cuts the network of the page in sight, or mends it.
pub(crate) async fn set_network(browser: &WebDriver, offline: bool) {
    let tools = browser.cdp();
    tools.send_raw("Network.enable", json!({})).await.unwrap();
    let conditions = json!({
        "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
    });
    tools
        .send_raw("Network.emulateNetworkConditions", conditions)
        .await
        .unwrap();
}

/// Checks that no button of a table is out of sight sideways, where a page that fits would hide it,
/// and that the way out stands beside the brand.
pub(crate) async fn check_reach(browser: &WebDriver, page: &str) {
    let found = find_out_of_reach(browser).await;
    assert!(found.is_empty(), "{page}: out of reach: {found:?}");
}

/// What [`check_reach`] refuses.
pub(crate) async fn find_out_of_reach(browser: &WebDriver) -> Vec<String> {
    let script = "const place = (element) => element?.getBoundingClientRect(); \
                  const width = document.documentElement.clientWidth; \
                  const buttons = [...document.querySelectorAll('main td button')]; \
                  const hidden = buttons.filter((button) => place(button).right > width); \
                  const brand = place(document.querySelector('.brand')); \
                  const way = place(document.querySelector('form[action=\"/sign-out\"]')); \
                  const apart = way && (way.top > brand.bottom || way.bottom < brand.top); \
                  return [...hidden.map((button) => button.textContent), ...(apart ? ['sign out'] : [])]";
    let found = browser.execute(script, Vec::new()).await.unwrap();
    found.convert().unwrap()
}

/// What sticks out of the page sideways: the innermost parts.
pub(crate) async fn find_overflow(browser: &WebDriver) -> Vec<String> {
    let script = "const width = document.documentElement.clientWidth; \
                  if (document.documentElement.scrollWidth <= width + 1) return []; \
                  const out = [...document.querySelectorAll('body *')].filter((element) => \
                      element.getBoundingClientRect().right > width + 1 \
                      && ![...element.children].some((child) => child.getBoundingClientRect().right > width + 1)); \
                  return [`${document.documentElement.scrollWidth} wide in ${width}`, \
                      ...out.slice(0, 5).map((element) => element.outerHTML.slice(0, 200))]";
    let found = browser.execute(script, Vec::new()).await.unwrap();
    found.convert().unwrap()
}

/// The source of axe-core; none, with a word on why, where no registry answers.
fn axe_core() -> Option<&'static str> {
    static SOURCE: OnceLock<Option<String>> = OnceLock::new();
    let fetch = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/axe-core");
        let got = Command::new(script).output().unwrap();
        let said = String::from_utf8_lossy(&got.stderr);
        match got.status.code() {
            Some(0) => {
                let path = String::from_utf8(got.stdout).unwrap();
                Some(std::fs::read_to_string(path.trim()).unwrap())
            }
            Some(3) => {
                eprintln!("skipped: axe-core is not here and no registry answers: {said}");
                None
            }
            _ => panic!("axe-core cannot be fetched: {said}"),
        }
    };
    SOURCE.get_or_init(fetch).as_deref()
}

/// Checks with axe-core that the page as it is now shuts nobody out: every rule of WCAG 2.2 A and AA
/// and axe's own best practices, but for what only a person can judge. Where no registry answers and
/// axe-core is not here, it says so and checks nothing.
pub(crate) async fn check_accessible(browser: &WebDriver) {
    let found = find_barriers(browser).await.unwrap_or_default();
    let address = browser.current_url().await.unwrap();
    assert!(found.is_empty(), "{address}:\n{}", found.join("\n"));
}

/// The same of a part of the page that covers others.
pub(crate) async fn check_accessible_part(browser: &WebDriver, css: &str) {
    let found = find_barriers_in(browser, css).await.unwrap_or_default();
    assert!(found.is_empty(), "{css}:\n{}", found.join("\n"));
}

/// What axe-core has against the page; none where axe-core cannot be had.
pub(crate) async fn find_barriers(browser: &WebDriver) -> Option<Vec<String>> {
    find_barriers_in(browser, "html").await
}

async fn find_barriers_in(browser: &WebDriver, css: &str) -> Option<Vec<String>> {
    let source = axe_core()?;
    // What a bar covers comes out from under it by scrolling: what never does is found by `find_out_of_reach`.
    let script = "const rules = {'target-size': {enabled: true}}; \
                  const found = await axe.run(document.querySelector(arguments[0]), {rules, resultTypes: ['violations']}); \
                  const isCovered = (wrong, node) => wrong.id === 'target-size' && /obscured/.test(node.failureSummary); \
                  const told = found.violations.map((wrong) => \
                    ({...wrong, nodes: wrong.nodes.filter((node) => !isCovered(wrong, node))})); \
                  return told.filter((wrong) => wrong.nodes.length).map((wrong) => `${wrong.id}: ${wrong.help}\\n` \
                    + wrong.nodes.map((node) => `    ${node.html}\\n    ${node.failureSummary}`).join('\\n'));";
    // The driver's own world is under the page's policy too, which knows no eval: the source is
    // handed over as the script itself.
    let is_there = browser.execute("return Boolean(window.axe)", Vec::new());
    let is_there: bool = is_there.await.unwrap().convert().unwrap();
    if !is_there {
        browser.execute(source, Vec::new()).await.unwrap();
    }
    let found = browser.execute(script, vec![json!(css)]).await.unwrap();
    Some(found.convert().unwrap())
}

/// Checks that nothing sticks out sideways, and keeps a picture of the whole page where wanted.
pub(crate) async fn look(browser: &WebDriver, name: &str) {
    let script = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth, \
                  document.documentElement.scrollHeight]";
    if let Ok(sizes) = browser.execute(script, Vec::new()).await {
        let sizes: Vec<u32> = sizes.convert().unwrap();
        assert!(
            sizes[0] <= sizes[1] + 1,
            "{name} is {} wide in a window of {}",
            sizes[0],
            sizes[1]
        );
    }
    keep_picture(browser, name).await;
}

/// Keeps a picture of what is in sight, where wanted.
pub(crate) async fn keep_picture(browser: &WebDriver, name: &str) {
    let Ok(folder) = std::env::var("PLACKETT_SCREENSHOTS") else {
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    browser
        .screenshot(&Path::new(&folder).join(format!("{name}.png")))
        .await
        .unwrap();
}
