//! `/attention`: submissions that nobody may have looked at closely, and how often that is so of each
//! labeler. It accuses nobody: a sign is a reason to read the label.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};

use crate::auth::visitor::ProjectAdmin;
use crate::domain::ids::{AccountId, AssignmentId};
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::pages::gold::share_of;
use crate::pages::prompts::{choose_project, excerpt};
use crate::state::AppState;
use crate::stats::agreement::{Counts, TiePolicy};
use crate::store;
use crate::store::attention::{Filter, LabelerSigns, Sign};
use crate::store::projects::Project;
use crate::web::page::{Page, render};

/// Submissions on one page of the list.
const PAGE_LENGTH: usize = 50;

/// The signs that the list can be narrowed to.
const SIGNS: [&str; 2] = ["untouched", "too-fast"];

#[derive(Template)]
#[template(path = "attention/index.html")]
struct AttentionPage {
    page: Page,
    projects: Vec<Project>,
    project: Option<Project>,
    query: AttentionQuery,
    least_seconds: i16,
    labelers: Vec<LabelerSigns>,
    /// How far each labeler agrees with themselves, days later, where something came back.
    repeats: BTreeMap<AccountId, Counts>,
    signs: Vec<SignRow>,
    next: Option<AssignmentId>,
}

/// A submission as the list shows it.
struct SignRow {
    sign: Sign,
    excerpt: String,
}

/// What the list is narrowed to.
#[derive(Debug, Default, serde::Deserialize)]
pub struct AttentionQuery {
    /// Short name of the project; the first one when empty.
    #[serde(default)]
    project: String,
    /// `untouched`, `too-fast`, or empty for both.
    #[serde(default)]
    sign: String,
    /// One labeler; all when empty.
    #[serde(default)]
    labeler: String,
    /// The last submission of the page before.
    #[serde(default)]
    before: Option<AssignmentId>,
}

impl AttentionPage {
    fn is_project(&self, project: &Project) -> bool {
        self.project
            .as_ref()
            .is_some_and(|own| own.id == project.id)
    }

    fn signs_to_choose(&self) -> [(&'static str, String); 2] {
        SIGNS.map(|sign| (sign, self.page.t(&format!("attention-{sign}"))))
    }

    fn is_labeler(&self, labeler: &LabelerSigns) -> bool {
        self.query.labeler == labeler.labeler_id.to_string()
    }

    /// How far a labeler agrees with themselves: "83 % (n = 24)"; a dash where nothing came back.
    fn steadiness(&self, labeler: &LabelerSigns) -> String {
        let counts = self.repeats.get(&labeler.labeler_id);
        let counts = counts.copied().unwrap_or_default();
        let policy = TiePolicy::Half;
        let n = i64::try_from(counts.n(policy)).unwrap_or(i64::MAX);
        share_of(&self.page, counts.share(policy), n)
    }

    /// "3 of 40 (7.5 %)"; a dash where there is nothing to count.
    fn share(&self, n: &i64, of: &i64) -> String {
        if *of == 0 {
            return "–".to_owned();
        }
        let percent = format!("{:.1}", 100.0 * *n as f64 / *of as f64);
        let values = [
            ("n", n.to_string()),
            ("all", of.to_string()),
            ("percent", percent),
        ];
        self.page.t_args("attention-share", &values)
    }
}

impl SignRow {
    /// Seconds of activity, where they were counted.
    fn active(&self) -> Option<i64> {
        self.sign.active_ms.map(|ms| ms / 1000)
    }

    fn elapsed(&self) -> i64 {
        self.sign.elapsed_ms / 1000
    }
}

/// `GET /attention`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    Query(query): Query<AttentionQuery>,
) -> AppResult<Response> {
    let wrong = |field| AppError::invalid(field, Message::new("error-unknown-choice"));
    if !query.sign.is_empty() && !SIGNS.contains(&query.sign.as_str()) {
        return Err(wrong("sign"));
    }
    let labeler_id: Option<AccountId> = match query.labeler.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|_| wrong("labeler"))?),
    };
    let mut db = state.db.acquire().await?;
    let projects = store::members::list_administered(&mut db, admin.account_id).await?;
    let project = choose_project(&projects, &query.project)?;
    let (mut labelers, mut signs, mut least_seconds) = (Vec::new(), Vec::new(), 0);
    let mut repeats: BTreeMap<AccountId, Counts> = BTreeMap::new();
    if let Some(project) = &project {
        let filter = Filter {
            sign: query.sign.clone(),
            labeler_id,
            before: query.before,
        };
        let limit = PAGE_LENGTH as i64 + 1;
        signs = store::attention::list(&mut db, project.id, &filter, limit).await?;
        labelers = store::attention::list_labelers(&mut db, project.id).await?;
        for repeated in store::repeats::list(&mut db, project.id).await? {
            let counts = Counts::of(&repeated.first, &repeated.again);
            let sum = repeats.entry(repeated.labeler_id).or_default();
            sum.same += counts.same;
            sum.opposite += counts.opposite;
            sum.one_tie += counts.one_tie;
            sum.both_tie += counts.both_tie;
        }
        let settings = store::projects::find_settings(&mut db, project.id).await?;
        least_seconds = settings.map_or(0, |settings| settings.least_seconds);
    }
    drop(db);
    let has_more = signs.len() > PAGE_LENGTH;
    signs.truncate(PAGE_LENGTH);
    let last = signs.last().map(|sign| sign.assignment_id);
    let row = |sign: Sign| SignRow {
        excerpt: excerpt(&sign.body),
        sign,
    };
    Ok(render(&AttentionPage {
        page: page.titled("attention-title"),
        projects,
        project,
        query,
        least_seconds,
        labelers,
        repeats,
        next: last.filter(|_| has_more),
        signs: signs.into_iter().map(row).collect(),
    })?
    .into_response())
}
