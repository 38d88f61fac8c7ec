//! The cut-offs of a project's screening: a form on the page of its candidates.

use axum::extract::State;
use axum::response::Response;
use axum_extra::extract::Form as HtmlForm;

use crate::auth::visitor::ProjectAdmin;
use crate::domain::audit::AuditAction;
use crate::domain::screening::Rules;
use crate::error::{AppResult, FieldError};
use crate::message::Message;
use crate::pages::screening_candidates::{Shown, back, find_project, show};
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::web::page::Page;

/// The form of the cut-offs.
#[derive(Debug, serde::Deserialize)]
pub struct RulesForm {
    project: String,
    /// In per cent.
    #[serde(default)]
    pub(super) least_flags: String,
    /// In per cent.
    #[serde(default)]
    pub(super) least_ranks: String,
    #[serde(default)]
    pub(super) least_demonstrations: String,
    #[serde(default)]
    pub(super) graders: String,
    /// The numbers that the reader has seen; who does not say, as a program may, is not asked.
    #[serde(default)]
    pub(super) last: String,
}

/// A share in per cent, without the digits that only a binary number has.
pub(super) fn percent(share: f64) -> String {
    let percent = (share * 1e8).round() / 1e6;
    percent.to_string()
}

impl RulesForm {
    /// The cut-offs that a project has.
    pub(super) fn of(rules: &Rules) -> Self {
        Self {
            project: String::new(),
            least_flags: percent(rules.least_flags),
            least_ranks: percent(rules.least_ranks),
            least_demonstrations: rules.least_demonstrations.to_string(),
            graders: rules.graders.to_string(),
            last: rules.fingerprint(),
        }
    }

    /// What saving these would change, by the names and in the numbers of the page.
    fn changes(&self, old: &Rules, page: &Page) -> Vec<(String, String)> {
        let old = Self::of(old);
        let fields = [
            ("least_flags", &old.least_flags, &self.least_flags, " %"),
            ("least_ranks", &old.least_ranks, &self.least_ranks, " %"),
            (
                "least_demonstrations",
                &old.least_demonstrations,
                &self.least_demonstrations,
                "",
            ),
            ("graders", &old.graders, &self.graders, ""),
        ];
        let differing = fields.into_iter().filter(|(_, old, new, _)| old != new);
        differing
            .map(|(name, old, new, unit)| (page.field(name), format!("{old}{unit} → {new}{unit}")))
            .collect()
    }

    fn rules(&self) -> Result<Rules, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut read = |field: &str, text: &str, low: f64, high: f64| -> f64 {
            let value: f64 = text.trim().parse().unwrap_or(f64::NAN);
            let is_wrong = field == "graders" && value.fract() != 0.0;
            if is_wrong || !(low..=high).contains(&value) {
                let message = Message::new("error-outside").with("low", low);
                errors.push(FieldError::new(field, message.with("high", high)));
            }
            value
        };
        let rules = Rules {
            least_flags: read("least_flags", &self.least_flags, 0.0, 100.0) / 100.0,
            least_ranks: read("least_ranks", &self.least_ranks, 0.0, 100.0) / 100.0,
            least_demonstrations: read(
                "least_demonstrations",
                &self.least_demonstrations,
                1.0,
                7.0,
            ),
            graders: read("graders", &self.graders, 1.0, 10.0) as i16,
        };
        match errors.is_empty() {
            true => Ok(rules),
            false => Err(errors),
        }
    }
}

/// `POST /screening/rules`: the cut-offs of decisions to come. What somebody else saved since the page was opened
/// is not saved over: the page comes back with both.
pub async fn set_rules(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    HtmlForm(mut form): HtmlForm<RulesForm>,
) -> AppResult<Response> {
    let mut db = state.db.begin().await?;
    let project = find_project(&mut db, &admin, &form.project).await?;
    // Of two who save at once the second sees what the first saved.
    store::projects::lock(&mut db, project.id).await?;
    let old = store::screenings::find_rules(&mut db, project.id).await?;
    let in_force = old.fingerprint();
    if form.last.is_empty() {
        form.last.clone_from(&in_force);
    }
    let rules = match form.rules() {
        Ok(rules) => rules,
        Err(errors) => {
            // By the cut-offs that were seen: this page tells nothing of others that were saved meanwhile.
            let shown = Shown::unsaved(form, errors, Vec::new());
            return show(&mut db, page, &admin, &project.slug, shown).await;
        }
    };
    let typed = RulesForm::of(&rules);
    let meanwhile = typed.changes(&old, &page);
    if form.last != in_force && !meanwhile.is_empty() {
        let seen = RulesForm {
            last: in_force,
            ..typed
        };
        let shown = Shown::unsaved(seen, Vec::new(), meanwhile);
        return show(&mut db, page, &admin, &project.slug, shown).await;
    }
    store::screenings::set_rules(&mut db, project.id, &rules).await?;
    let changes = rules.changes(&old);
    if changes != serde_json::json!({}) {
        let event = NewEvent::by(admin.account_id, AuditAction::ScreeningRules);
        let event = event.to("project", project.id.0).within(project.id);
        store::audit_events::record(&mut db, event.with(changes)).await?;
    }
    db.commit().await?;
    Ok(back(&form.project, "rules"))
}
