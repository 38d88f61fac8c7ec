//! What programs that rank have said in a project, beside what people said.

use sqlx::PgConnection;

use crate::domain::ids::ProjectId;

/// Who ranked in a project.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Simulated {
    /// Whether a program did.
    pub has_any: bool,
    /// Rankings by people for the dataset, counted up to what was asked for; none where no program ranked.
    pub n_by_people: i64,
}

/// Looks who ranked; rankings by people are counted up to `most`, since a page has no time to count all.
pub async fn find(
    db: &mut PgConnection,
    project_id: ProjectId,
    most: i64,
) -> sqlx::Result<Simulated> {
    let has_any = sqlx::query_scalar!(
        r#"
        SELECT EXISTS (
            SELECT 1 FROM accounts u
            JOIN assignments a ON a.labeler_id = u.id AND a.status = 'submitted'
            JOIN tasks t ON t.id = a.task_id
            WHERE u.is_simulated AND t.project_id = $1 AND t.kind IN ('rank', 'compare')) AS "has_any!"
        "#,
        project_id.0
    )
    .fetch_one(&mut *db)
    .await?;
    if !has_any {
        return Ok(Simulated::default());
    }
    let n_by_people = sqlx::query_scalar!(
        r#"
        SELECT count(*) AS "n!" FROM (
            SELECT 1 FROM tasks t
            JOIN assignments a ON a.task_id = t.id AND a.status = 'submitted' AND NOT a.is_adjudication
            JOIN accounts u ON u.id = a.labeler_id AND NOT u.is_simulated
            WHERE t.project_id = $1 AND t.kind IN ('rank', 'compare') AND t.purpose = 'label'
            LIMIT $2) r
        "#,
        project_id.0,
        most
    )
    .fetch_one(db)
    .await?;
    Ok(Simulated {
        has_any,
        n_by_people,
    })
}
