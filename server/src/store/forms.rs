//! Versions of a project's form. Each label keeps the one it was given under.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::form::Form;
use crate::domain::ids::{AccountId, ProjectId};
use crate::error::{AppError, AppResult};

/// A version of a form.
#[derive(Debug)]
pub struct FormVersion {
    /// 1, 2, 3 ...
    pub version: i32,
    /// The form.
    pub fields: Value,
    /// Who published it.
    pub created_by: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Submissions that were made with it.
    pub n_labels: i64,
}

/// Every version, newest first.
pub async fn list(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<Vec<FormVersion>> {
    sqlx::query_as!(
        FormVersion,
        r#"
        SELECT f.version, f.fields, u.name AS "created_by?", f.created_at, coalesce(n.n, 0) AS "n_labels!"
        FROM forms f
        LEFT JOIN accounts u ON u.id = f.created_by
        LEFT JOIN (
            SELECT a.form_version, count(*) AS n
            FROM tasks t
            JOIN assignments a ON a.task_id = t.id
            WHERE t.project_id = $1 AND a.status = 'submitted'
            GROUP BY a.form_version
        ) AS n ON n.form_version = f.version
        WHERE f.project_id = $1
        ORDER BY f.version DESC
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await
}

/// Publishes the version after `last`, which is 0 where there is none.
///
/// # Errors
/// `Conflict` when somebody published one meanwhile.
pub async fn publish(
    db: &mut PgConnection,
    project_id: ProjectId,
    last: i32,
    fields: &Value,
    created_by: AccountId,
) -> AppResult<i32> {
    super::projects::lock(&mut *db, project_id).await?;
    let made = sqlx::query_scalar!(
        r#"
        INSERT INTO forms (project_id, version, fields, created_by)
        SELECT $1, $2 + 1, $3, $4
        WHERE $2 = (SELECT coalesce(max(version), 0) FROM forms WHERE project_id = $1)
        RETURNING version
        "#,
        project_id.0,
        last,
        fields,
        created_by.0
    )
    .fetch_optional(db)
    .await?;
    made.ok_or_else(|| AppError::conflict("error-form-published-meanwhile"))
}

/// Forms that were read lately, by project and version. A version is never changed (a trigger holds that), so
/// what is here stays true; each page of work and each submission would read and parse it anew otherwise.
static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);

type Known = HashMap<(ProjectId, i32), Arc<Form>>;

/// Most forms that are kept; all go where more come.
const KEPT: usize = 256;

/// A version of the form; the standard form where there is none of that number.
///
/// # Errors
/// When the stored form cannot be read.
pub async fn find(
    db: &mut PgConnection,
    project_id: ProjectId,
    version: i32,
) -> AppResult<Arc<Form>> {
    let key = (project_id, version);
    let known = KNOWN
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&key)
        .cloned();
    if let Some(form) = known {
        return Ok(form);
    }
    let fields = sqlx::query_scalar!(
        "SELECT fields FROM forms WHERE project_id = $1 AND version = $2",
        project_id.0,
        version
    )
    .fetch_optional(db)
    .await?;
    let Some(fields) = fields else {
        // Not kept: a version of that number may come.
        return Ok(Arc::default());
    };
    let form: Arc<Form> = Arc::new(serde_json::from_value(fields).map_err(anyhow::Error::from)?);
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= KEPT {
        known.clear();
    }
    known.insert(key, form.clone());
    Ok(form)
}
