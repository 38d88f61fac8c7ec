//! Who works in a project: who labels, in which languages, which rules each has agreed to, and who may
//! administer it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::domain::ids::{AccountId, ProjectId};
use crate::domain::role::MemberRole;
use crate::error::{AppError, AppResult};
use crate::store::projects::Project;

/// Whether an account may administer a project: as its admin, or as an admin of everything. The
/// database's function of the same name decides, here and in every list that is cut to what somebody may
/// see.
pub async fn may_administer(
    db: &mut PgConnection,
    account_id: AccountId,
    project_id: ProjectId,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT may_administer($1, $2) AS "may!""#,
        account_id.0,
        project_id.0
    )
    .fetch_one(db)
    .await
}

/// A project that an account may administer.
///
/// # Errors
/// `NotFound` for any other project: it does not exist for them.
pub async fn find_administered(
    db: &mut PgConnection,
    account_id: AccountId,
    project_id: ProjectId,
) -> AppResult<Project> {
    let project = match may_administer(&mut *db, account_id, project_id).await? {
        true => super::projects::find(db, project_id).await?,
        false => None,
    };
    project.ok_or(AppError::NotFound("project"))
}

/// The projects that an account may administer: by age, archived ones last.
pub async fn list_administered(
    db: &mut PgConnection,
    account_id: AccountId,
) -> sqlx::Result<Vec<Project>> {
    sqlx::query_as!(
        Project,
        r#"
        SELECT id AS "id: ProjectId", slug, name, overlap, lease_seconds, archived_at IS NOT NULL AS "is_archived!"
        FROM projects
        WHERE may_administer($1, id)
        ORDER BY archived_at IS NOT NULL, created_at, id
        "#,
        account_id.0
    )
    .fetch_all(db)
    .await
}

/// What a labeler must acknowledge before they work in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// How to judge.
    Guidelines,
    /// What they agree to.
    Consent,
}

impl Subject {
    /// The word stored in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guidelines => "guidelines",
            Self::Consent => "consent",
        }
    }
}

impl std::str::FromStr for Subject {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "guidelines" => Ok(Self::Guidelines),
            "consent" => Ok(Self::Consent),
            other => Err(format!("unknown subject {other:?}")),
        }
    }
}

/// A project that a labeler may work in.
#[derive(Debug, Clone)]
pub struct Place {
    /// The project.
    pub project_id: ProjectId,
    /// The name shown.
    pub name: String,
    /// Whether they have acknowledged the newest guidelines and consent, where there are any.
    pub has_acknowledged: bool,
    /// Whether they declined the newest consent, or withdrew their agreement to it.
    pub has_refused: bool,
}

impl Place {
    /// Whether guidelines or consent wait for the labeler, who has not said no.
    pub fn is_waiting(&self) -> bool {
        !self.has_acknowledged && !self.has_refused
    }
}

/// The projects that are open to a labeler or that they are assigned to, oldest first.
pub async fn list_places(db: &mut PgConnection, labeler_id: AccountId) -> sqlx::Result<Vec<Place>> {
    sqlx::query_as!(
        Place,
        r#"
        SELECT p.id AS "project_id: ProjectId", p.name,
               (g.version IS NULL OR EXISTS (
                    SELECT 1 FROM acknowledgements k
                    WHERE k.account_id = $1 AND k.project_id = p.id
                      AND k.subject = 'guidelines' AND k.version = g.version))
               AND (c.version IS NULL OR EXISTS (
                    SELECT 1 FROM acknowledgements k
                    WHERE k.account_id = $1 AND k.project_id = p.id
                      AND k.subject = 'consent' AND k.version = c.version AND k.withdrawn_at IS NULL)) AS "has_acknowledged!",
               has_refused($1, p.id) AS "has_refused!"
        FROM projects p
        CROSS JOIN LATERAL (SELECT max(version) AS version FROM guidelines WHERE project_id = p.id) g
        CROSS JOIN LATERAL (SELECT max(version) AS version FROM consents WHERE project_id = p.id) c
        WHERE p.archived_at IS NULL
          AND (p.is_open OR EXISTS (
               SELECT 1 FROM members m WHERE m.project_id = p.id AND m.account_id = $1))
        ORDER BY p.created_at, p.id
        "#,
        labeler_id.0
    )
    .fetch_all(db)
    .await
}

/// Notes that a labeler has read a version and agrees to it. False when the project has no such
/// version, or a newer one.
pub async fn acknowledge(
    db: &mut PgConnection,
    labeler_id: AccountId,
    project_id: ProjectId,
    subject: Subject,
    version: i32,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        WITH newest AS (
            SELECT CASE $3
                WHEN 'guidelines' THEN (SELECT max(version) FROM guidelines WHERE project_id = $2)
                ELSE (SELECT max(version) FROM consents WHERE project_id = $2) END AS version
        ), noted AS (
            INSERT INTO acknowledgements (account_id, project_id, subject, version)
            SELECT $1, $2, $3, version FROM newest WHERE version = $4
            ON CONFLICT (account_id, project_id, subject, version) DO UPDATE SET withdrawn_at = NULL, at = now()
            WHERE acknowledgements.withdrawn_at IS NOT NULL
        )
        SELECT coalesce(version = $4, FALSE) AS "is_newest!" FROM newest
        "#,
        labeler_id.0,
        project_id.0,
        subject.as_str(),
        version
    )
    .fetch_one(db)
    .await
}

/// Assigns a labeler to a project, or changes their languages (primary tags such as `zh`; none is any).
pub async fn assign(
    db: &mut PgConnection,
    project_id: ProjectId,
    account_id: AccountId,
    languages: &[String],
    added_by: Option<AccountId>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO members (project_id, account_id, languages, added_by)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (project_id, account_id) DO UPDATE SET languages = EXCLUDED.languages
        "#,
        project_id.0,
        account_id.0,
        languages,
        added_by.map(|id| id.0)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends a labeler's assignment to a project; what they labelled stays.
pub async fn remove(
    db: &mut PgConnection,
    project_id: ProjectId,
    account_id: AccountId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM members WHERE project_id = $1 AND account_id = $2",
        project_id.0,
        account_id.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Somebody who works in a project.
#[derive(Debug)]
pub struct Member {
    /// The account.
    pub account_id: AccountId,
    /// The name shown.
    pub name: String,
    /// The address signed in with.
    pub email: String,
    /// Whether they administer the project.
    pub is_admin: bool,
    /// Whether the account has the role that labeling needs.
    pub is_labeler: bool,
    /// Whether the account is switched off.
    pub is_off: bool,
    /// Whether a program labels.
    pub is_simulated: bool,
    /// Languages that they label in; empty is any.
    pub languages: Vec<String>,
    /// Whether they have acknowledged the newest guidelines and consent.
    pub has_acknowledged: bool,
    /// What they have submitted here.
    pub n_submitted: i64,
    /// Since when.
    pub added_at: DateTime<Utc>,
}

/// The members of a project, admins first, then by name.
pub async fn list(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<Vec<Member>> {
    sqlx::query_as!(
        Member,
        r#"
        SELECT m.account_id AS "account_id: AccountId", u.name, u.email, m.role = 'admin' AS "is_admin!",
               'labeler' = ANY (u.roles) AS "is_labeler!", u.disabled_at IS NOT NULL AS "is_off!",
               u.is_simulated, m.languages, m.added_at,
               NOT EXISTS (
                   SELECT 1
                   FROM (SELECT subject, max(version) AS version FROM rules
                         WHERE project_id = $1 GROUP BY subject) AS newest
                   WHERE NOT EXISTS (
                       SELECT 1 FROM acknowledgements k
                       WHERE k.account_id = m.account_id AND k.project_id = $1
                         AND k.subject = newest.subject AND k.version = newest.version
                         AND k.withdrawn_at IS NULL)) AS "has_acknowledged!",
               (SELECT count(*) FROM assignments a
                JOIN tasks t ON t.id = a.task_id
                WHERE a.labeler_id = m.account_id AND a.status = 'submitted' AND t.project_id = $1) AS "n_submitted!"
        FROM members m
        JOIN accounts u ON u.id = m.account_id
        WHERE m.project_id = $1
        ORDER BY m.role, u.name, u.id
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await
}

/// What a member does in a project; none for who is no member.
pub async fn find_role(
    db: &mut PgConnection,
    project_id: ProjectId,
    account_id: AccountId,
) -> sqlx::Result<Option<MemberRole>> {
    let word = sqlx::query_scalar!(
        "SELECT role FROM members WHERE project_id = $1 AND account_id = $2",
        project_id.0,
        account_id.0
    )
    .fetch_optional(db)
    .await?;
    Ok(word.and_then(|word| word.parse().ok()))
}

/// Makes a member an admin of the project, or a labeler again.
pub async fn set_role(
    db: &mut PgConnection,
    project_id: ProjectId,
    account_id: AccountId,
    role: MemberRole,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE members SET role = $3 WHERE project_id = $1 AND account_id = $2",
        project_id.0,
        account_id.0,
        role.as_str()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How many labelers would be asked to acknowledge a new version of a project's rules.
pub async fn count_asked(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        SELECT count(*) AS "n!"
        FROM accounts u
        JOIN projects p ON p.id = $1
        WHERE 'labeler' = ANY (u.roles) AND u.disabled_at IS NULL AND NOT u.is_simulated
          AND (p.is_open OR EXISTS (
               SELECT 1 FROM members m WHERE m.project_id = p.id AND m.account_id = u.id))
        "#,
        project_id.0
    )
    .fetch_one(db)
    .await
}
