//! `plackett simulate`: labelers that are programs, so that one person can see the whole loop.
//! They lease and submit through the same functions as people do; their accounts are marked as
//! simulated, cannot sign in, and are left out of snapshots unless asked for.

use anyhow::Context;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use crate::commands::database::Database;
use crate::commands::sentence;
use crate::config::DataConfig;
use crate::domain::agreement::{Agreement, Figure};
use crate::domain::audit::AuditAction;
use crate::domain::ids::AccountId;
use crate::domain::labels::Filter;
use crate::domain::role::Role;
use crate::domain::simulation::{STATEMENT, expected_quality, rank, utility};
use crate::domain::submission::{Input, TimeSpent};
use crate::stats::correlation::spearman;
use crate::stats::interval::Estimate;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::labels::MOST;
use crate::store::projects::Project;
use crate::store::queue::Lease;
use crate::store::submissions::NewSubmission;

/// Candidates that the scale of ratings is measured on, at most.
const SCALE_SAMPLE: i64 = 20_000;

/// Rank open tasks with simulated labelers.
///
/// Each has the same hidden utility and judges every pair of candidates wrongly with the error
/// rate; the ranking orders candidates by the pairs they won. Ratings are equal parts of the utility
/// over the project's candidates, as many as the form's scale has values; whether a candidate fails
/// the instruction is answered where the form asks it.
#[derive(Debug, clap::Args)]
#[command(after_help = STATEMENT)]
pub struct SimulateArgs {
    /// Short name of the project.
    #[arg(long, value_name = "SLUG")]
    project: String,

    /// How many labelers; they are made where they do not exist yet.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    labelers: u32,

    /// Probability that a labeler judges a pair wrongly, 0 to 0.5.
    #[arg(long, default_value_t = 0.1)]
    error_rate: f64,

    /// Error rates of the first and the last labeler; those between are evenly apart. Afterwards it is
    /// told how well the rankings alone say who errs how often, beside the quality that each rate comes to.
    #[arg(long, value_name = "FIRST:LAST", value_parser = parse_range, conflicts_with = "error_rate")]
    error_rates: Option<(f64, f64)>,

    /// Decides display orders, errors and whose turn it is.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Stop after this many rankings. Default: when no task is open.
    #[arg(long)]
    limit: Option<u64>,
}

/// Makes the labelers, ranks, and says how much and how well.
///
/// # Errors
/// When the project is unknown, the error rate is none, or the database fails.
pub async fn run(data: &DataConfig, args: SimulateArgs) -> anyhow::Result<()> {
    let database = Database::open(data, 2).await?;
    let done = carry_out(&database.pool, &args).await;
    database.close().await;
    done
}

/// Two error rates with a colon between them.
fn parse_range(text: &str) -> Result<(f64, f64), String> {
    let ends = text.split_once(':');
    let ends = ends.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    ends.ok_or_else(|| "give two numbers, such as 0.05:0.45".to_owned())
}

async fn carry_out(pool: &PgPool, args: &SimulateArgs) -> anyhow::Result<()> {
    let mut db = pool.acquire().await?;
    let slug = &args.project;
    let project = store::projects::find_by_slug(&mut db, slug)
        .await?
        .with_context(|| format!("no project has the short name {slug}"))?;
    drop(db);
    let (first, last) = args
        .error_rates
        .unwrap_or((args.error_rate, args.error_rate));
    let crowd = Crowd::between(args.labelers, first, last);
    let limit = args.limit.unwrap_or(u64::MAX);
    let n = simulate_crowd(pool, &project, &crowd, args.seed, limit).await?;
    println!("{n} rankings by {} simulated labelers.", args.labelers);
    let mut db = pool.acquire().await?;
    let expected = expected_qualities(&mut db, &project, &crowd).await?;
    match args.error_rates {
        Some(_) => print_study(&study(pool, &project, &crowd).await?),
        None => {
            if let Some(Some(quality)) = expected.first() {
                println!("{}", expectation(first, *quality));
            }
        }
    }
    Ok(())
}

/// What an error rate comes to, in a sentence.
fn expectation(error_rate: f64, quality: f64) -> String {
    format!(
        "An error rate of {error_rate} comes to a quality of {quality:.3} in this project: \
         a place in a ranking rests on all pairs of a candidate."
    )
}

/// The quality that each labeler of a crowd has in a project: see [`expected_quality`]. None where the project has
/// nothing to be ranked.
///
/// # Errors
/// When the database fails.
pub async fn expected_qualities(
    db: &mut PgConnection,
    project: &Project,
    crowd: &Crowd,
) -> anyhow::Result<Vec<Option<f64>>> {
    let sample = store::tasks::sample_candidates(db, project.id, SCALE_SAMPLE).await?;
    // Candidates of a task follow one another, and begin with slot 0.
    let mut tasks: Vec<Vec<f64>> = Vec::new();
    for (body, candidate) in &sample {
        let own = utility(&request_of(body), &candidate.text);
        match tasks.last_mut().filter(|_| candidate.slot > 0) {
            Some(task) => task.push(own),
            None => tasks.push(vec![own]),
        }
    }
    let rates = crowd.error_rates.iter();
    Ok(rates.map(|rate| expected_quality(&tasks, *rate)).collect())
}

/// Simulated labelers, numbered one after another.
#[derive(Debug, Clone, PartialEq)]
pub struct Crowd {
    /// Number of the first one; 1 in the command.
    pub first: u32,
    /// The probability that each judges a pair wrongly, 0 to 0.5.
    pub error_rates: Vec<f64>,
}

impl Crowd {
    /// `n` labelers whose error rates go evenly from one to another.
    pub fn between(n: u32, first: f64, last: f64) -> Self {
        let step = (last - first) / f64::from(n.saturating_sub(1).max(1));
        Self {
            first: 1,
            error_rates: (0..n)
                .map(|place| first + step * f64::from(place))
                .collect(),
        }
    }

    fn members(&self) -> impl Iterator<Item = (u32, f64)> {
        (self.first..).zip(self.error_rates.iter().copied())
    }

    /// The address of the account of a number.
    pub fn address(number: u32) -> String {
        format!("simulated-{number}@plackett.example")
    }
}

/// Lets `n_labelers` of the same error rate rank as [`simulate_crowd`] says.
///
/// # Errors
/// As [`simulate_crowd`].
pub async fn simulate(
    pool: &PgPool,
    project: &Project,
    n_labelers: u32,
    error_rate: f64,
    seed: u64,
    limit: u64,
) -> anyhow::Result<u64> {
    let crowd = Crowd::between(n_labelers, error_rate, error_rate);
    simulate_crowd(pool, project, &crowd, seed, limit).await
}

/// Lets labelers rank open tasks of a project, each once a round, until none is open or `limit` rankings are made;
/// returns how many.
///
/// # Errors
/// When an error rate is not within 0 to 0.5 or the database fails.
pub async fn simulate_crowd(
    pool: &PgPool,
    project: &Project,
    crowd: &Crowd,
    seed: u64,
    limit: u64,
) -> anyhow::Result<u64> {
    let mut db = pool.acquire().await?;
    rank_open_tasks(&mut db, project, crowd, seed, limit).await
}

/// The same on one connection, which may be in a transaction that nobody else waits for. That programs rank is
/// logged before the first of them does.
///
/// # Errors
/// As [`simulate_crowd`].
pub async fn rank_open_tasks(
    db: &mut PgConnection,
    project: &Project,
    crowd: &Crowd,
    seed: u64,
    limit: u64,
) -> anyhow::Result<u64> {
    let mut rates = crowd.error_rates.iter();
    anyhow::ensure!(
        rates.all(|rate| (0.0..=0.5).contains(rate)),
        "error rates must be 0 to 0.5: at 0.5 a judgement is a coin toss"
    );
    let event = NewEvent::by_command_line(AuditAction::Simulated).within(project.id);
    let rates = crowd.error_rates.iter();
    let rates: Vec<f64> = rates.map(|rate| (rate * 1000.0).round() / 1000.0).collect();
    let told = json!({"labelers": rates.len(), "error_rates": rates, "seed": seed});
    store::audit_events::record(db, event.with(told)).await?;
    let scale = measure_scale(db, project).await?;
    let mut labelers = Vec::new();
    for (number, error_rate) in crowd.members() {
        let id = find_or_make_labeler(db, number).await?;
        let rng = trainer::rng::stream(seed, "simulated labeler", u64::from(number));
        labelers.push((id, error_rate, rng));
    }
    // In a new order each round: those beside each other would share all their tasks.
    let mut turns = trainer::rng::stream(seed, "turns of simulated labelers", 0);
    let mut n = 0;
    while !labelers.is_empty() && n < limit {
        labelers.shuffle(&mut turns);
        let mut waiting = Vec::new();
        for (id, error_rate, mut rng) in labelers {
            if n == limit {
                break;
            }
            let lease = store::queue::lease(db, project.id, id, &mut rng).await;
            if let Some(lease) = lease.map_err(sentence)? {
                submit(db, id, &lease, &scale, error_rate, &mut rng).await?;
                waiting.push((id, error_rate, rng));
                n += 1;
            }
        }
        labelers = waiting;
    }
    Ok(n)
}

/// What a simulated labeler is, and what is told of them.
#[derive(Debug)]
pub struct Studied {
    /// Their name.
    pub name: String,
    /// How probably they judge a pair wrongly.
    pub error_rate: f64,
    /// The quality that this comes to: see [`expected_quality`].
    pub expected: Option<f64>,
    /// The quality that the model tells from the rankings.
    pub told: Figure,
}

/// How well rankings alone say which labeler errs how often.
#[derive(Debug)]
pub struct Study {
    /// Each labeler.
    pub labelers: Vec<Studied>,
    /// Spearman's rho of the quality with the share of pairs that each judges rightly.
    pub rho: Option<Estimate>,
}

/// Compares the quality model with the error rates that simulated labelers have, over the newest
/// rankings of a project.
///
/// # Errors
/// When the database fails.
pub async fn study(pool: &PgPool, project: &Project, crowd: &Crowd) -> anyhow::Result<Study> {
    let mut db = pool.acquire().await?;
    let filter = Filter {
        with_simulated: true,
        ..Filter::default()
    };
    let labels = store::labels::list(&mut db, project.id, &filter, MOST).await?;
    let agreement = Agreement::of(&labels, 0);
    let expected = expected_qualities(&mut db, project, crowd).await?;
    let mut labelers = Vec::new();
    for ((number, error_rate), expected) in crowd.members().zip(expected) {
        let id = find_or_make_labeler(&mut db, number).await?;
        let mut told = agreement.labelers.iter();
        if let Some(own) = told.find(|own| own.labeler_id == id) {
            labelers.push(Studied {
                name: own.name.clone(),
                error_rate,
                expected,
                told: own.quality,
            });
        }
    }
    let told = labelers.iter();
    let told = told.filter_map(|own| Some((1.0 - own.error_rate, own.told.value?)));
    let (right, found): (Vec<f64>, Vec<f64>) = told.unzip();
    Ok(Study {
        labelers,
        rho: spearman(&right, &found),
    })
}

fn print_study(study: &Study) {
    println!(
        "{:<26} {:>10} {:>8} {:>8}  95 % interval",
        "Labeler", "error rate", "expected", "quality"
    );
    for own in &study.labelers {
        let number = |value: Option<f64>, none: &str| {
            value.map_or(none.to_owned(), |value| format!("{value:.3}"))
        };
        let (expected, told) = (number(own.expected, "–"), number(own.told.value, "too few"));
        let interval = own.told.interval();
        let interval = interval.map(|(low, high)| format!("{low:.3} to {high:.3}"));
        let interval = interval.unwrap_or_default();
        let (name, error_rate) = (&own.name, own.error_rate);
        println!("{name:<26} {error_rate:>10.3} {expected:>8} {told:>8}  {interval}");
    }
    if let Some(rho) = study.rho {
        println!(
            "Spearman's rho of quality and pairs judged rightly: {:.3}.",
            rho.value
        );
    }
}

/// The sorted utilities of the project's candidates.
async fn measure_scale(db: &mut PgConnection, project: &Project) -> anyhow::Result<Vec<f64>> {
    let sample = store::tasks::sample_candidates(db, project.id, SCALE_SAMPLE).await?;
    let mut scale: Vec<f64> = sample
        .iter()
        .map(|(body, candidate)| utility(&request_of(body), &candidate.text))
        .collect();
    scale.sort_by(f64::total_cmp);
    Ok(scale)
}

async fn find_or_make_labeler(db: &mut PgConnection, number: u32) -> anyhow::Result<AccountId> {
    let email = Crowd::address(number);
    if let Some(account) = store::accounts::find_by_email(db, &email).await? {
        anyhow::ensure!(
            account.is_simulated,
            "{email} belongs to a person: simulated labelers cannot use it"
        );
        return Ok(account.id);
    }
    let name = format!("Simulated labeler {number}");
    store::accounts::insert(db, &email, &name, &[Role::Labeler], true)
        .await
        .map_err(sentence)
}

async fn submit(
    db: &mut PgConnection,
    labeler_id: AccountId,
    lease: &Lease,
    scale: &[f64],
    error_rate: f64,
    rng: &mut ChaCha12Rng,
) -> anyhow::Result<()> {
    let view = store::tasks::find_view(db, lease.task_id).await?;
    let request = request_of(&view.prompt);
    let candidates = store::tasks::find_candidates(db, lease.task_id).await?;
    let mut utilities = Vec::new();
    for slot in &lease.display_order {
        let candidate = candidates
            .iter()
            .find(|candidate| candidate.slot == *slot)
            .with_context(|| format!("task {} has no slot {slot}", lease.task_id))?;
        utilities.push(utility(&request, &candidate.text));
    }
    let assignment = store::assignments::find(db, lease.assignment_id, labeler_id)
        .await
        .map_err(sentence)?;
    let form = store::assignments::find_form(db, &assignment)
        .await
        .map_err(sentence)?;
    let input = rank(&utilities, scale, &form, error_rate, rng);
    let key = format!("simulated-{}", lease.assignment_id);
    let new = NewSubmission {
        idempotency_key: &key,
        input: &Input::Ranking(input),
        time: TimeSpent::default(),
        replaces: None,
        revision: None,
    };
    store::submissions::submit(db, lease.assignment_id, labeler_id, &new)
        .await
        .map_err(sentence)?;
    Ok(())
}

/// What is asked: the text, or everything the user said in a conversation.
fn request_of(body: &Value) -> String {
    match body {
        Value::String(text) => text.clone(),
        Value::Array(turns) => {
            let said = turns.iter().filter(|turn| turn["role"] == "user");
            let texts: Vec<&str> = said.filter_map(|turn| turn["content"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}
