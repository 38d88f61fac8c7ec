//! Labelers at work: lease, submit, and again, with or without a pause for thought.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde_json::json;
use server::auth::token::Token;
use server::domain::form::Form;
use server::domain::ids::ProjectId;
use server::domain::role::Role;
use server::store;
use server::store::members::Subject;
use sqlx::PgPool;
use tokio::sync::Notify;
use uuid::Uuid;

use super::http::{Answer, Connection};
use super::page_form::PageForm;

/// How labelers reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// JSON with a bearer token, as programs do.
    Api,
    /// Pages and forms with a cookie, as a browser does.
    Pages,
}

impl Way {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Pages => "pages",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) way: Way,
    /// The project's id, which the API's address has.
    pub(crate) project_id: Uuid,
    pub(crate) n_labelers: usize,
    /// How long each thinks about a task, half as long to half as long again by chance; zero is not at all.
    pub(crate) think: Duration,
    /// Not measured, at the beginning.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// The work ends before more tasks than this are leased.
    pub(crate) most_loops: usize,
}

/// One lease and submission.
#[derive(Debug)]
struct Loop {
    ended: Instant,
    next: Duration,
    submit: Duration,
    assignment: Uuid,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Times of the loops that ended while it was measured.
    pub(crate) next: Vec<Duration>,
    pub(crate) submit: Vec<Duration>,
    /// How long it was measured.
    pub(crate) seconds: f64,
    /// Every assignment whose submission was acknowledged, measured or not.
    pub(crate) acknowledged: Vec<Uuid>,
    /// What went wrong.
    pub(crate) errors: Vec<String>,
}

/// What labelers share.
struct Shared {
    plan: Plan,
    form: Form,
    left: AtomicUsize,
    stop: AtomicBool,
    /// Told when no more tasks may be leased.
    done: Notify,
}

/// Makes the labelers, lets them work, and calls `watch(true)` when measuring begins and
/// `watch(false)` when it ends.
pub(crate) async fn work(
    db: &PgPool,
    plan: Plan,
    mut watch: impl FnMut(bool),
) -> anyhow::Result<Work> {
    let mut secrets = Vec::with_capacity(plan.n_labelers);
    for number in 0..plan.n_labelers {
        secrets.push(make_labeler(db, &plan, number).await?);
    }
    let (warm_up, measured) = (plan.warm_up, plan.measured);
    let shared = Arc::new(Shared {
        left: AtomicUsize::new(plan.most_loops),
        stop: AtomicBool::new(false),
        done: Notify::new(),
        form: Form::default(),
        plan,
    });
    let labelers: Vec<_> = secrets
        .into_iter()
        .zip(1u64..)
        .map(|(secret, seed)| tokio::spawn(labeler(Arc::clone(&shared), secret, seed)))
        .collect();
    tokio::select! {
        () = tokio::time::sleep(warm_up) => (),
        () = shared.done.notified() => bail!("the tasks were done before measuring began: use more"),
    }
    let begun = Instant::now();
    watch(true);
    tokio::select! {
        () = tokio::time::sleep(measured) => (),
        () = shared.done.notified() => (),
    }
    let ended = Instant::now();
    watch(false);
    shared.stop.store(true, Ordering::Relaxed);
    let mut work = Work {
        seconds: (ended - begun).as_secs_f64(),
        ..Work::default()
    };
    for labeler in labelers {
        let (loops, error) = labeler.await?;
        work.errors.extend(error.map(|error| format!("{error:#}")));
        for item in loops {
            work.acknowledged.push(item.assignment);
            if (begun..ended).contains(&item.ended) {
                work.next.push(item.next);
                work.submit.push(item.submit);
            }
        }
    }
    Ok(work)
}

/// Makes an account that has read the guidelines, and what it proves itself with: a bearer token or a
/// session.
async fn make_labeler(db: &PgPool, plan: &Plan, number: usize) -> anyhow::Result<Token> {
    let mut db = db.acquire().await?;
    let name = format!("labeler-{}-{number}", plan.way.as_str());
    let email = format!("{name}@bench.invalid");
    let id = store::accounts::insert(&mut db, &email, &name, &[Role::Labeler], false)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let project_id = ProjectId(plan.project_id);
    if let Some((version, _)) = store::projects::find_guidelines(&mut db, project_id).await? {
        let subject = Subject::Guidelines;
        store::members::acknowledge(&mut db, id, project_id, subject, version).await?;
    }
    if plan.way == Way::Api {
        return store::api_tokens::create(&mut db, id, "bench").await;
    }
    let token = Token::generate()?;
    store::sessions::insert(&mut db, &token.hash(), id, "bench", 1).await?;
    Ok(token)
}

/// One labeler's work, until told to stop, out of tasks or refused: the loops, and why it ended early.
async fn labeler(
    shared: Arc<Shared>,
    secret: Token,
    seed: u64,
) -> (Vec<Loop>, Option<anyhow::Error>) {
    let mut loops = Vec::new();
    let mut visitor = Visitor {
        connection: Connection::new(shared.plan.address),
        secret: secret.reveal().to_owned(),
        rng: ChaCha12Rng::seed_from_u64(seed),
        shared,
    };
    let ended = match visitor.shared.plan.way {
        Way::Api => visitor.work_by_api(&mut loops).await,
        Way::Pages => visitor.work_by_pages(&mut loops).await,
    };
    (loops, ended.err())
}

struct Visitor {
    connection: Connection,
    secret: String,
    rng: ChaCha12Rng,
    shared: Arc<Shared>,
}

impl Visitor {
    /// Whether one more task may be leased.
    fn may_go_on(&self) -> bool {
        let shared = &self.shared;
        let take = |left: usize| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if shared.left.fetch_update(order, order, take).is_err() {
            shared.done.notify_one();
            return false;
        }
        !shared.stop.load(order)
    }

    /// What a task takes a person.
    async fn think(&mut self) {
        let think = self.shared.plan.think;
        if !think.is_zero() {
            tokio::time::sleep(think.mul_f64(self.rng.random_range(0.5..1.5))).await;
        }
    }

    async fn work_by_api(&mut self, loops: &mut Vec<Loop>) -> anyhow::Result<()> {
        let headers = format!(
            "authorization: Bearer {}\r\ncontent-type: application/json\r\n",
            self.secret
        );
        let lease = format!(
            "/api/v1/projects/{}/assignments",
            self.shared.plan.project_id
        );
        while self.may_go_on() {
            let begun = Instant::now();
            let answer = self
                .connection
                .send("POST", &lease, &headers, "")
                .await
                .context("lease")?;
            let next = begun.elapsed();
            if answer.status == 204 {
                self.shared.done.notify_one();
                return Ok(());
            }
            expect(&answer, 201)?;
            let location = answer.location.as_deref().unwrap_or_default();
            let assignment = id_at_end(location)?;
            let n = answer.text().matches("\"position\":").count();
            ensure!(n > 0, "a lease without candidates");
            let body = self.judge(n);
            self.think().await;
            let path = format!("{location}/submission");
            let headers = format!("{headers}idempotency-key: {assignment}\r\n");
            let begun = Instant::now();
            let answer = self
                .connection
                .send("POST", &path, &headers, &body)
                .await
                .context("submission")?;
            let submit = begun.elapsed();
            expect(&answer, 201)?;
            loops.push(Loop {
                ended: Instant::now(),
                next,
                submit,
                assignment,
            });
        }
        Ok(())
    }

    /// A submission about `n` candidates: ranks with ties, ratings, and about half of the flags.
    fn judge(&mut self, n: usize) -> String {
        let candidates: Vec<_> = (1..=n)
            .map(|position| {
                let mut flags = serde_json::Map::new();
                for flag in &self.shared.form.flags {
                    if self.rng.random_bool(0.5) {
                        flags.insert(flag.key.clone(), json!(self.rng.random_bool(0.2)));
                    }
                }
                json!({
                    "position": position,
                    "rank": self.rng.random_range(1..=n),
                    "rating": self.rng.random_range(1..=7),
                    "flags": flags,
                })
            })
            .collect();
        json!({"candidates": candidates, "note": ""}).to_string()
    }

    /// The first page is read as it is, for its form. Those after it come compressed, as browsers ask
    /// for them, and are not unpacked: the form is the same, and this is not what is measured.
    async fn work_by_pages(&mut self, loops: &mut Vec<Loop>) -> anyhow::Result<()> {
        let address = self.shared.plan.address;
        let cookie = format!("cookie: plackett={}\r\n", self.secret);
        let page_headers =
            format!("{cookie}accept: text/html\r\naccept-encoding: gzip, deflate, br\r\n");
        let form_headers = format!(
            "{cookie}accept: text/html\r\naccept-encoding: gzip, deflate, br\r\norigin: http://{address}\r\n\
             sec-fetch-site: same-origin\r\ncontent-type: application/x-www-form-urlencoded\r\n"
        );
        let answer = self
            .connection
            .send("POST", "/work", &form_headers, "")
            .await
            .context("first lease")?;
        expect(&answer, 303)?;
        let mut location = answer.location.unwrap_or_default();
        let plain = format!("{cookie}accept: text/html\r\n");
        let first = self.connection.send("GET", &location, &plain, "").await?;
        expect(&first, 200)?;
        let form = PageForm::read(&first.text()).context("the page has no form")?;
        while location != "/work" && self.may_go_on() {
            let assignment = id_at_end(&location)?;
            let begun = Instant::now();
            let answer = self
                .connection
                .send("GET", &location, &page_headers, "")
                .await
                .context("page")?;
            let next = begun.elapsed();
            expect(&answer, 200)?;
            ensure!(answer.is_compressed, "a page came as it is");
            let body = form.fill_in(&Uuid::new_v4().to_string(), &mut self.rng);
            self.think().await;
            let begun = Instant::now();
            let answer = self
                .connection
                .send("POST", &location, &form_headers, &body)
                .await
                .context("form")?;
            let submit = begun.elapsed();
            expect(&answer, 303)?;
            loops.push(Loop {
                ended: Instant::now(),
                next,
                submit,
                assignment,
            });
            let place = answer.location.unwrap_or_default();
            // The query says what became of the submission.
            location = place.split('?').next().unwrap_or_default().to_owned();
        }
        self.shared.done.notify_one();
        Ok(())
    }
}

/// The assignment that an address ends with.
fn id_at_end(path: &str) -> anyhow::Result<Uuid> {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.parse()
        .with_context(|| format!("{path:?} names no assignment"))
}

fn expect(answer: &Answer, status: u16) -> anyhow::Result<()> {
    ensure!(
        answer.status == status,
        "status {} where {status} was expected: {}",
        answer.status,
        answer.text().chars().take(300).collect::<String>()
    );
    Ok(())
}
