//! Guidelines and consents: what labelers read and acknowledge before they work. Versions are rows and
//! never change; both are alike but for their table.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::domain::form::Texts;
use crate::domain::ids::{AccountId, ProjectId};
use crate::store::members::Subject;

/// Publishes the next version and returns its number. Those who publish at once wait for each other.
pub async fn publish(
    db: &mut PgConnection,
    project_id: ProjectId,
    subject: Subject,
    texts: &Texts,
    created_by: AccountId,
) -> sqlx::Result<i32> {
    super::projects::lock(&mut *db, project_id).await?;
    let texts = serde_json::json!(texts);
    match subject {
        Subject::Guidelines => {
            sqlx::query_scalar!(
                r#"
                INSERT INTO guidelines (project_id, version, markdown, created_by)
                SELECT $1, coalesce(max(version), 0) + 1, $2, $3 FROM guidelines WHERE project_id = $1
                RETURNING version
                "#,
                project_id.0,
                texts,
                created_by.0
            )
            .fetch_one(db)
            .await
        }
        Subject::Consent => {
            sqlx::query_scalar!(
                r#"
                INSERT INTO consents (project_id, version, markdown, created_by)
                SELECT $1, coalesce(max(version), 0) + 1, $2, $3 FROM consents WHERE project_id = $1
                RETURNING version
                "#,
                project_id.0,
                texts,
                created_by.0
            )
            .fetch_one(db)
            .await
        }
    }
}

/// A version as the list shows it.
#[derive(Debug)]
pub struct RuleVersion {
    /// 1, 2, 3 ...
    pub version: i32,
    /// What it says, by language.
    pub texts: Json<Texts>,
    /// Who published it.
    pub created_by: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// How many people have acknowledged it.
    pub n_acknowledged: i64,
}

/// Every version, newest first.
pub async fn list(
    db: &mut PgConnection,
    project_id: ProjectId,
    subject: Subject,
) -> sqlx::Result<Vec<RuleVersion>> {
    sqlx::query_as!(
        RuleVersion,
        r#"
        SELECT r.version AS "version!", r.markdown AS "texts!: Json<Texts>", u.name AS "created_by?",
               r.created_at AS "created_at!",
               (SELECT count(*) FROM acknowledgements k
                WHERE k.project_id = $1 AND k.subject = $2 AND k.version = r.version
                  AND k.withdrawn_at IS NULL) AS "n_acknowledged!"
        FROM rules r
        LEFT JOIN accounts u ON u.id = r.created_by
        WHERE r.project_id = $1 AND r.subject = $2
        ORDER BY r.version DESC
        "#,
        project_id.0,
        subject.as_str()
    )
    .fetch_all(db)
    .await
}

/// The newest version of one subject of a project, and what a reader knows of it.
#[derive(Debug)]
pub struct RuleToRead {
    /// The project.
    pub project_id: ProjectId,
    /// Its name.
    pub project: String,
    /// `guidelines` or `consent`.
    pub subject: String,
    /// The newest version.
    pub version: i32,
    /// What it says, by language.
    pub texts: Json<Texts>,
    /// The newest version that the reader has acknowledged.
    pub acknowledged: Option<i32>,
    /// What that said.
    pub acknowledged_texts: Option<Json<Texts>>,
    /// Whether the reader labels here, and so must acknowledge it.
    pub is_asked: bool,
    /// When they last declined the newest version, or withdrew their consent to it; only to be looked at
    /// where it is not acknowledged now.
    pub refused_at: Option<DateTime<Utc>>,
}

impl RuleToRead {
    /// Whether it waits to be acknowledged or declined.
    pub fn is_due(&self) -> bool {
        self.is_open() && self.refused_at.is_none()
    }

    /// Whether the reader said no to it.
    pub fn is_refused(&self) -> bool {
        self.is_open() && self.refused_at.is_some()
    }

    fn is_open(&self) -> bool {
        self.is_asked && self.acknowledged != Some(self.version)
    }
}

/// The newest guidelines and consent of every project that a reader labels in (`is_labeler`), is screened for
/// or administers: projects by age, consent first, since nobody reads on who does not agree.
pub async fn list_to_read(
    db: &mut PgConnection,
    reader_id: AccountId,
    is_labeler: bool,
) -> sqlx::Result<Vec<RuleToRead>> {
    sqlx::query_as!(
        RuleToRead,
        r#"
        SELECT p.id AS "project_id!: ProjectId", p.name AS "project!", s.subject AS "subject!",
               r.version AS "version!", r.markdown AS "texts!: Json<Texts>",
               k.version AS "acknowledged?", o.markdown AS "acknowledged_texts?: Json<Texts>",
               q.is_asked AS "is_asked!",
               (SELECT max(f.at) FROM consent_refusals f
                WHERE s.subject = 'consent' AND f.account_id = $1 AND f.project_id = p.id
                  AND f.version = r.version) AS "refused_at?"
        FROM projects p
        CROSS JOIN (VALUES ('consent'), ('guidelines')) AS s (subject)
        CROSS JOIN LATERAL (
            SELECT $2 AND p.archived_at IS NULL
                   AND (p.is_open OR EXISTS (
                        SELECT 1 FROM members m WHERE m.project_id = p.id AND m.account_id = $1)) AS is_asked
        ) AS q
        CROSS JOIN LATERAL (
            SELECT version, markdown FROM rules
            WHERE project_id = p.id AND subject = s.subject
            ORDER BY version DESC LIMIT 1
        ) AS r
        LEFT JOIN LATERAL (
            SELECT max(a.version) AS version FROM acknowledgements a
            WHERE a.account_id = $1 AND a.project_id = p.id AND a.subject = s.subject
              AND a.withdrawn_at IS NULL
        ) AS k ON TRUE
        LEFT JOIN rules o ON o.project_id = p.id AND o.subject = s.subject AND o.version = k.version
        WHERE q.is_asked OR (p.archived_at IS NULL AND may_administer($1, p.id))
           OR EXISTS (SELECT 1 FROM screenings c
                      WHERE c.project_id = p.id AND c.account_id = $1 AND c.status <> 'withdrawn')
        ORDER BY p.created_at, p.id, s.subject
        "#,
        reader_id.0,
        is_labeler
    )
    .fetch_all(db)
    .await
}
