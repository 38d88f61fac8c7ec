//! The part of the snapshots' form that says which tasks and labelers to leave out.

use sqlx::PgConnection;

use crate::domain::ids::ProjectId;
use crate::domain::snapshot_filters::Filters;
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::pages::snapshots::SnapshotForm;
use crate::stats::agreement::TiePolicy;
use crate::store;
use crate::store::snapshots::Snapshot;
use crate::web::page::Page;

/// The policies on ties, as the form has them.
pub(super) const TIES: [(&str, TiePolicy); 3] = [
    ("left_out", TiePolicy::LeftOut),
    ("half", TiePolicy::Half),
    ("category", TiePolicy::Category),
];

/// What the form says of tasks and labelers to leave out.
///
/// # Errors
/// `Invalid` with every wrong field.
pub(super) async fn read(
    db: &mut PgConnection,
    project_id: ProjectId,
    form: &SnapshotForm,
) -> AppResult<Filters> {
    let mut errors = Vec::new();
    let mut share = |field: &str, text: &str| {
        let read = percentage(text);
        if read == Err(()) {
            errors.push(FieldError::new(
                field,
                Message::new("error-not-a-percentage"),
            ));
        }
        read.unwrap_or_default()
    };
    let mut filters = Filters {
        least_agreement: share("least_agreement", &form.least_agreement),
        least_gold: share("least_gold", &form.least_gold),
        least_quality: share("least_quality", &form.least_quality),
        without_single: form.without_single,
        without_unproven: form.without_unproven,
        ..Filters::default()
    };
    let ties = TIES
        .iter()
        .find(|(word, _)| form.ties.is_empty() || *word == form.ties);
    match ties {
        Some((_, policy)) => filters.ties = *policy,
        None => errors.push(FieldError::new(
            "ties",
            Message::new("error-unknown-choice"),
        )),
    }
    let known = store::label_withdrawals::list_labelers(db, project_id).await?;
    for line in form.without_labelers.lines().map(str::trim) {
        let named = known
            .iter()
            .find(|own| own.email.eq_ignore_ascii_case(line));
        match named {
            _ if line.is_empty() => (),
            Some(own) => filters.without_labelers.push(own.id),
            None => {
                let message = Message::new("error-no-labeler-here").with("who", line);
                errors.push(FieldError::new("without_labelers", message));
            }
        }
    }
    match errors.is_empty() {
        true => Ok(filters),
        false => Err(AppError::Invalid(errors)),
    }
}

/// A share out of a percentage; blank is none.
pub(crate) fn percentage(text: &str) -> Result<Option<f64>, ()> {
    let text = text.trim().trim_end_matches('%').trim_end();
    if text.is_empty() {
        return Ok(None);
    }
    let percent: f64 = text.replace(',', ".").parse().map_err(|_| ())?;
    match (0.0..=100.0).contains(&percent) {
        true => Ok(Some(percent / 100.0)),
        false => Err(()),
    }
}

/// What a snapshot was narrowed to and what it left out, a sentence each.
pub(super) fn describe(page: &Page, snapshot: &Snapshot) -> Vec<String> {
    let filters = &snapshot.filters.0;
    let ties = TIES.iter().find(|(_, policy)| *policy == filters.ties);
    let ties = ties.map_or("left_out", |(word, _)| word).replace('_', "-");
    let ties = page.t(&format!("agreement-policy-{ties}"));
    let said = |key: &str, least: Option<f64>| {
        let percent = format!("{}", (1000.0 * least?).round() / 10.0);
        let values = [("percent", percent), ("ties", ties.clone())];
        Some(page.t_args(key, &values))
    };
    let shares = [
        said("snapshots-said-agreement", filters.least_agreement),
        said("snapshots-said-gold", filters.least_gold),
        said("snapshots-said-quality", filters.least_quality),
    ];
    let reasons = snapshot.left_out.0.reasons().into_iter();
    let reasons =
        reasons.map(|(reason, n)| page.t_with(&format!("snapshots-without-{reason}"), "n", n));
    shares.into_iter().flatten().chain(reasons).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_from_nought_to_a_hundred_and_blank_is_none() {
        assert_eq!(percentage(" "), Ok(None));
        assert_eq!(percentage("75"), Ok(Some(0.75)));
        assert_eq!(percentage("62.5 %"), Ok(Some(0.625)));
        assert_eq!(percentage("62,5"), Ok(Some(0.625)));
        for wrong in ["-1", "101", "half", "NaN", "inf"] {
            assert_eq!(percentage(wrong), Err(()), "{wrong}");
        }
    }
}
