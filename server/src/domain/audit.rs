//! What the audit log tells of: a word for each kind of deed.

use crate::domain::task::words;

words! {
    /// Something that was done, and is logged in the same transaction.
    AuditAction ("action") {
        /// Signed in, by password or link.
        SignIn = "sign_in",
        /// Typed a wrong password, or an address that no account has.
        SignInFailed = "sign_in_failed",
        /// Signed out.
        SignOut = "sign_out",
        /// Made an account.
        AccountCreated = "account_created",
        /// Gave an account other roles.
        AccountRoles = "account_roles",
        /// Switched an account off.
        AccountOff = "account_off",
        /// Switched an account on again.
        AccountOn = "account_on",
        /// Made a sign-in link for an account.
        LinkCreated = "link_created",
        /// Set the own password.
        PasswordSet = "password_set",
        /// Made an API token.
        TokenCreated = "token_created",
        /// Revoked an API token.
        TokenRevoked = "token_revoked",
        /// Made a project.
        ProjectCreated = "project_created",
        /// Took a project out of sight of its labelers.
        ProjectArchived = "project_archived",
        /// Brought an archived project back.
        ProjectRestored = "project_restored",
        /// Changed a project's settings.
        SettingsChanged = "settings_changed",
        /// Published a version of a form.
        FormPublished = "form_published",
        /// Published a version of guidelines.
        GuidelinesPublished = "guidelines_published",
        /// Published a version of a consent.
        ConsentPublished = "consent_published",
        /// Did not agree to a consent.
        ConsentDeclined = "consent_declined",
        /// Withdrew their consent.
        ConsentWithdrawn = "consent_withdrawn",
        /// Withdrew somebody's labels from later snapshots.
        LabelsWithdrawn = "labels_withdrawn",
        /// Took somebody's withdrawn labels in again.
        LabelsRestored = "labels_restored",
        /// Made somebody a member of a project, or changed what they do there.
        MemberAssigned = "member_assigned",
        /// Ended somebody's membership.
        MemberRemoved = "member_removed",
        /// Imported a file.
        Import = "import",
        /// Took a snapshot.
        SnapshotTaken = "snapshot_taken",
        /// Began to download a snapshot or this log.
        Export = "export",
        /// Opened tasks by hand.
        TasksOpened = "tasks_opened",
        /// Let simulated labelers rank.
        Simulated = "simulated",
        /// Closed a task.
        TaskClosed = "task_closed",
        /// Opened a closed task again.
        TaskReopened = "task_reopened",
        /// Wrote the right answer of a task down.
        GoldAnswered = "gold_answered",
        /// Took a gold task out of use.
        GoldRetired = "gold_retired",
        /// Decided between labels.
        TaskAdjudicated = "task_adjudicated",
        /// Answered a labeler's question.
        QuestionAnswered = "question_answered",
        /// Took a published answer back.
        AnswerWithdrawn = "answer_withdrawn",
        /// Changed what candidates must reach.
        ScreeningRules = "screening_rules",
        /// Invited somebody to be screened.
        ScreeningInvited = "screening_invited",
        /// Took an invitation back.
        ScreeningWithdrawn = "screening_withdrawn",
        /// Graded a text of a screening.
        ScreeningGraded = "screening_graded",
        /// Changed what candidates are asked.
        ScreeningTasks = "screening_tasks",
        /// Passed a screening, and became a labeler.
        ScreeningPassed = "screening_passed",
        /// Did not pass a screening.
        ScreeningFailed = "screening_failed",
        /// Queued a run.
        RunStarted = "run_started",
        /// Asked a run to stop.
        RunStopped = "run_stopped",
        /// Let a run go on.
        RunResumed = "run_resumed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i18n::{Lang, find};

    #[test]
    fn every_action_has_a_sentence_in_both_languages_and_fits_the_database() {
        for action in AuditAction::ALL {
            let word = action.as_str();
            assert!(
                word.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            );
            for lang in Lang::ALL {
                let key = format!("audit-action-{}", word.replace('_', "-"));
                assert!(find(lang, &key).is_some(), "no {key} in {lang}");
            }
        }
    }
}
