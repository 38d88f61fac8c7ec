//! `GET /`: what is waiting for each role of the visitor, and for a labeler what they did, how fast, and
//! how far they agree with what is known.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{Datelike, Days};

use crate::auth::visitor::Visitor;
use crate::domain::ids::ProjectId;
use crate::error::AppResult;
use crate::state::AppState;
use crate::store;
use crate::store::home::{Day, Figures, OwnGold, Pace, Waiting};
use crate::store::rules::RuleToRead;
use crate::store::tasks::MOST_COUNTED;
use crate::web::bars::Bars;
use crate::web::page::{Page, render};

/// Gold tasks before which a labeler's agreement with them says nothing.
const LEAST_GOLD: usize = 5;

/// A project with tasks that wait.
struct WaitingProject {
    id: ProjectId,
    name: String,
    kinds: Vec<(String, i64)>,
}

/// What a labeler's part of the page shows.
struct Labeling {
    due: Vec<RuleToRead>,
    has_open: bool,
    waiting: Vec<WaitingProject>,
    days: Vec<Day>,
    paces: Vec<Pace>,
    gold: OwnGold,
}

#[derive(Template)]
#[template(path = "home/index.html")]
struct HomePage {
    page: Page,
    figures: Option<Figures>,
    labeling: Option<Labeling>,
}

impl Labeling {
    fn today(&self) -> Day {
        self.days.last().cloned().unwrap_or(Day {
            day: chrono::Utc::now().date_naive(),
            submitted: 0,
            active_ms: 0,
            idle_ms: 0,
            leased_ms: 0,
        })
    }

    /// Submissions since Monday, UTC.
    fn this_week(&self) -> i64 {
        let today = self.today().day;
        let since = u64::from(today.weekday().num_days_from_monday());
        let monday = today.checked_sub_days(Days::new(since)).unwrap_or(today);
        let days = self.days.iter().filter(|day| day.day >= monday);
        days.map(|day| day.submitted).sum()
    }

    fn percent(&self) -> Option<String> {
        let is_enough = self.gold.n_tasks >= LEAST_GOLD;
        let share = self.gold.ranks.share().filter(|_| is_enough)?;
        Some(format!("{:.0}", 100.0 * share))
    }

    fn submitted(&self) -> Bars {
        let days = self.days.iter().map(|day| day.submitted as f64);
        Bars::new(&days.collect::<Vec<_>>())
    }

    fn active(&self) -> Bars {
        let days = self.days.iter().map(|day| day.active_ms as f64);
        Bars::new(&days.collect::<Vec<_>>())
    }

    fn first_day(&self) -> String {
        self.days.first().map(day_text).unwrap_or_default()
    }

    fn last_day(&self) -> String {
        self.days.last().map(day_text).unwrap_or_default()
    }

    fn has_worked(&self) -> bool {
        self.days
            .iter()
            .any(|day| day.submitted > 0 || day.active_ms > 0)
    }
}

/// A day without its year.
fn day_text(day: &Day) -> String {
    day.day.format("%m-%d").to_string()
}

impl HomePage {
    /// How many tasks of a kind wait, counted up to a bound.
    fn count(&self, kind: &str, n: &i64) -> String {
        let n = match *n >= MOST_COUNTED {
            true => format!("{MOST_COUNTED}+"),
            false => n.to_string(),
        };
        let kind = self.page.t(&format!("home-kind-{kind}"));
        self.page
            .t_args("home-n-of-kind", &[("n", n), ("kind", kind)])
    }

    /// A figure that is counted up to a bound.
    fn bounded(&self, n: &i64) -> String {
        match *n >= store::home::MOST_ROWS {
            true => format!("{}+", store::home::MOST_ROWS),
            false => n.to_string(),
        }
    }

    fn kind(&self, kind: &str) -> String {
        self.page.t(&format!("home-kind-{kind}"))
    }

    fn day(&self, day: &Day) -> String {
        day_text(day)
    }

    /// Milliseconds as hours and minutes, or as seconds where they are few.
    fn duration(&self, ms: &i64) -> String {
        let seconds = (*ms + 500) / 1000;
        let (hours, minutes) = (seconds / 3600, seconds % 3600 / 60);
        match (hours, minutes) {
            (0, 0) => self.page.t_with("home-seconds", "s", seconds),
            (0, minutes) if seconds < 600 && seconds % 60 > 0 => self.page.t_args(
                "home-minutes-seconds",
                &[
                    ("m", minutes.to_string()),
                    ("s", (seconds % 60).to_string()),
                ],
            ),
            (0, minutes) => self.page.t_with("home-minutes", "m", minutes),
            (hours, minutes) => self.page.t_args(
                "home-hours-minutes",
                &[("h", hours.to_string()), ("m", minutes.to_string())],
            ),
        }
    }

    fn median(&self, pace: &Pace) -> String {
        self.duration(&(pace.median_ms.round() as i64))
    }

    fn whole(&self, value: &f64) -> String {
        format!("{value:.0}")
    }

    fn longest(&self, bars: &Bars) -> String {
        self.duration(&(bars.highest.round() as i64))
    }
}

/// Shows the visitor's home, or the way to it.
pub async fn index(State(state): State<AppState>, page: Page) -> AppResult<Response> {
    let Some(visitor) = page.visitor.clone() else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    let mut db = state.db.acquire().await?;
    let has_figures = visitor.is_project_admin || visitor.is_operator;
    let figures = match has_figures {
        true => Some(store::home::figures(&mut db, visitor.account_id).await?),
        false => None,
    };
    let labeling = match visitor.is_labeler {
        true => Some(find_labeling(&mut db, &visitor).await?),
        false => None,
    };
    drop(db);
    Ok(render(&HomePage {
        page: page.titled("home-title"),
        figures,
        labeling,
    })?
    .into_response())
}

async fn find_labeling(db: &mut sqlx::PgConnection, visitor: &Visitor) -> AppResult<Labeling> {
    let id = visitor.account_id;
    let rules = store::rules::list_to_read(&mut *db, id, true).await?;
    let open = store::assignments::find_open(&mut *db, id).await?;
    let waiting = group(store::home::list_waiting(&mut *db, id).await?);
    // What is to be read before the next task, and there is none, can wait.
    let comes_first =
        |rule: &RuleToRead| rule.is_due() && waiting.iter().any(|own| own.id == rule.project_id);
    Ok(Labeling {
        due: rules.into_iter().filter(comes_first).collect(),
        has_open: open.is_some(),
        waiting,
        days: store::home::list_days(&mut *db, id).await?,
        paces: store::home::list_paces(&mut *db, id).await?,
        gold: store::home::find_gold(db, id).await?,
    })
}

/// Rows of one project together.
fn group(rows: Vec<Waiting>) -> Vec<WaitingProject> {
    let mut projects: Vec<WaitingProject> = Vec::new();
    for row in rows {
        if projects.last().is_none_or(|last| last.id != row.project_id) {
            projects.push(WaitingProject {
                id: row.project_id,
                name: row.project,
                kinds: Vec::new(),
            });
        }
        if let Some(project) = projects.last_mut() {
            project.kinds.push((row.kind, row.n));
        }
    }
    projects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i18n::{Lang, find};

    #[test]
    fn every_kind_of_task_has_its_words_in_both_languages() {
        for lang in Lang::ALL {
            for kind in crate::domain::task::TaskKind::ALL {
                let key = format!("home-kind-{kind}");
                assert!(find(lang, &key).is_some(), "no {key} in {lang}");
            }
        }
    }

    #[test]
    fn a_week_begins_on_monday() {
        let day = |text: &str, submitted| Day {
            day: text.parse().unwrap_or_default(),
            submitted,
            active_ms: 0,
            idle_ms: 0,
            leased_ms: 0,
        };
        let labeling = |days| Labeling {
            due: Vec::new(),
            has_open: false,
            waiting: Vec::new(),
            days,
            paces: Vec::new(),
            gold: OwnGold::default(),
        };
        // 2026-11-22 is a Sunday.
        let days = vec![
            day("2026-11-22", 5),
            day("2026-11-23", 2),
            day("2026-11-24", 1),
        ];
        assert_eq!(labeling(days).this_week(), 3);
        assert_eq!(
            labeling(vec![day("2026-11-16", 1), day("2026-11-22", 5)]).this_week(),
            6
        );
    }
}
