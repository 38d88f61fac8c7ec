//! Who labels in a project, in which languages, and which rules each has agreed to.

use sqlx::PgConnection;

use crate::domain::ids::{AccountId, ProjectId};

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
                      AND k.subject = 'consent' AND k.version = c.version)) AS "has_acknowledged!"
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
            ON CONFLICT DO NOTHING
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
