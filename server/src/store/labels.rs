//! What labelers said in a project, read for figures: a bounded number of rankings, newest first, in a
//! few queries whose work does not grow with the project.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::gold::GoldAnswer;
use crate::domain::ids::{
    AccountId, CheckpointId, CompletionId, ProjectId, PromptId, RankingId, TaskId,
};
use crate::domain::labels::{
    Completion, Filter, Label, Labeler, Labels, Model, Numbers, PromptNumbers, Said,
};
use crate::domain::task::Purpose;

/// Rankings that figures rest on at most; the newest.
pub const MOST: usize = 20_000;

/// The overall rating among the scales.
pub const OVERALL: &str = "overall";

/// What changes when figures of a project have to be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The newest ranking.
    pub newest: Option<RankingId>,
    /// When the newest gold answer was written.
    pub gold_at: Option<DateTime<Utc>>,
    /// Active seconds under which a submission is called too fast.
    pub least_seconds: i16,
}

/// The stamp of a project as it is now; none where there is no such project.
pub async fn find_stamp(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> sqlx::Result<Option<Stamp>> {
    sqlx::query_as!(
        Stamp,
        r#"
        SELECT (SELECT r.id FROM rankings r
                JOIN assignments a ON a.id = r.assignment_id
                JOIN tasks t ON t.id = a.task_id
                WHERE t.project_id = p.id
                ORDER BY r.id DESC LIMIT 1) AS "newest: RankingId",
               (SELECT max(g.created_at) FROM tasks t
                JOIN gold_answers g ON g.task_id = t.id
                WHERE t.project_id = p.id AND t.purpose = 'gold') AS gold_at,
               p.least_seconds
        FROM projects p
        WHERE p.id = $1
        "#,
        project_id.0
    )
    .fetch_optional(db)
    .await
}

/// Each submitted ranking of a project that passes the filter, the newest `most` of them: the newest version,
/// and of gold tasks and repeats the first, as `store::gold` and `store::repeats` have it.
///
/// # Errors
/// When the database does not answer, or holds a word that this program does not know.
pub async fn list(
    db: &mut PgConnection,
    project_id: ProjectId,
    filter: &Filter,
    most: usize,
) -> anyhow::Result<Labels> {
    let mut ids = choose(db, project_id, filter, most + 1).await?;
    let is_cut = ids.len() > most;
    ids.truncate(most);
    let mut reader = Reader::default();
    // The overall rating is scale 0 whatever comes first.
    reader.scales.of(&OVERALL.to_owned());
    let labels = reader.read(db, &ids).await?;
    let originals = choose_originals(db, &ids).await?;
    let originals = reader.read(db, &originals).await?;
    let gold = labels.iter().filter(|label| label.purpose == Purpose::Gold);
    let mut gold: Vec<Uuid> = gold.map(|label| label.task.0).collect();
    gold.sort_unstable();
    gold.dedup();
    let gold = read_gold(db, &gold).await?;
    let labelers = list_labelers(db, &reader.labelers.all).await?;
    let (completions, models) = reader.list_completions(db).await?;
    Ok(Labels {
        labels,
        originals,
        labelers,
        categories: reader.categories,
        completions,
        models,
        flags: reader.flags.all,
        scales: reader.scales.all,
        gold: gold.into_iter().collect(),
        is_cut,
    })
}

/// Rankings that pass the filter, newest first.
async fn choose(
    db: &mut PgConnection,
    project_id: ProjectId,
    filter: &Filter,
    limit: usize,
) -> sqlx::Result<Vec<Uuid>> {
    let at = |day: Option<chrono::NaiveDate>, after: u64| {
        let day = day.and_then(|day| day.checked_add_days(chrono::Days::new(after)));
        day.and_then(|day| day.and_hms_opt(0, 0, 0))
            .map(|time| time.and_utc())
    };
    sqlx::query_scalar!(
        r#"
        SELECT r.id
        FROM rankings r
        JOIN assignments a ON a.id = r.assignment_id
        JOIN tasks t ON t.id = a.task_id
        JOIN prompts p ON p.id = t.prompt_id
        JOIN accounts u ON u.id = a.labeler_id
        WHERE t.project_id = $1 AND t.purpose IN ('label', 'gold', 'repeat') AND a.status = 'submitted'
          AND CASE WHEN t.purpose = 'label'
                   THEN NOT EXISTS (SELECT 1 FROM rankings n
                                    WHERE n.assignment_id = r.assignment_id AND n.version > r.version)
                   ELSE r.version = 1 END
          AND ($2::TIMESTAMPTZ IS NULL OR r.created_at >= $2)
          AND ($3::TIMESTAMPTZ IS NULL OR r.created_at < $3)
          AND ($4::TEXT IS NULL OR p.category = $4)
          AND ($5::TEXT IS NULL OR t.language = $5)
          AND ($6::TEXT IS NULL OR t.kind = $6)
          AND ($7::INTEGER IS NULL OR a.form_version = $7)
          AND ($8 OR NOT u.is_simulated)
        ORDER BY r.id DESC
        LIMIT $9
        "#,
        project_id.0,
        at(filter.since, 0),
        at(filter.until, 1),
        filter.category,
        filter.language,
        filter.kind.map(|kind| kind.as_str()),
        filter.form_version,
        filter.with_simulated,
        limit as i64
    )
    .fetch_all(db)
    .await
}

/// What the same labeler first said of the task before, for each of these rankings that is of a repeated one.
async fn choose_originals(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT DISTINCT r.id
        FROM rankings k
        JOIN assignments b ON b.id = k.assignment_id
        JOIN tasks t ON t.id = b.task_id AND t.purpose = 'repeat'
        JOIN assignments a ON a.task_id = t.repeat_of AND a.labeler_id = b.labeler_id AND a.status = 'submitted'
        JOIN rankings r ON r.assignment_id = a.id AND r.version = 1
        WHERE k.id = ANY($1)
        "#,
        ids
    )
    .fetch_all(db)
    .await
}

async fn list_labelers(db: &mut PgConnection, ids: &[AccountId]) -> sqlx::Result<Vec<Labeler>> {
    let keys: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query_as!(
        Labeler,
        r#"
        SELECT u.id AS "id: AccountId", u.name, u.is_simulated
        FROM unnest($1::UUID[]) WITH ORDINALITY AS k (id, place)
        JOIN accounts u ON u.id = k.id
        ORDER BY k.place
        "#,
        &keys
    )
    .fetch_all(db)
    .await
}

/// Versions of the form and languages that rankings of a project can be narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// Versions of the form, newest first.
    pub form_versions: Vec<i32>,
    /// Languages of prompts.
    pub languages: Vec<String>,
}

/// What the project's rankings can be narrowed to.
pub async fn find_choices(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<Choices> {
    let row = sqlx::query!(
        r#"
        SELECT ARRAY(SELECT version FROM forms WHERE project_id = $1 ORDER BY version DESC) AS "form_versions!",
               ARRAY(SELECT DISTINCT language FROM prompts
                     WHERE project_id = $1 AND language IS NOT NULL ORDER BY language) AS "languages!"
        "#,
        project_id.0
    )
    .fetch_one(db)
    .await?;
    Ok(Choices {
        form_versions: row.form_versions,
        languages: row.languages,
    })
}

/// Turns rows into labels, and ids into numbers.
#[derive(Default)]
struct Reader {
    labelers: Numbers<AccountId>,
    prompts: PromptNumbers,
    categories: Vec<String>,
    completions: Numbers<CompletionId>,
    /// Of each completion, its prompt.
    prompt_of: Vec<usize>,
    flags: Numbers<String>,
    scales: Numbers<String>,
}

impl Reader {
    /// These rankings, newest first.
    async fn read(&mut self, db: &mut PgConnection, ids: &[Uuid]) -> anyhow::Result<Vec<Label>> {
        let mut said = self.read_said(db, ids).await?;
        let mut signs = read_signs(db, ids).await?;
        let mut rows = sqlx::query!(
            r#"
            SELECT r.id, a.labeler_id, t.id AS task_id, t.repeat_of, t.purpose, p.id AS prompt_id, p.category,
                   a.is_adjudication, a.form_version, a.display_order, r.created_at
            FROM rankings r
            JOIN assignments a ON a.id = r.assignment_id
            JOIN tasks t ON t.id = a.task_id
            JOIN prompts p ON p.id = t.prompt_id
            WHERE r.id = ANY($1)
            ORDER BY r.id DESC
            "#,
            ids
        )
        .fetch(db);
        let mut labels = Vec::with_capacity(ids.len());
        while let Some(row) = rows.try_next().await? {
            let prompt = self.prompts.of(&PromptId(row.prompt_id));
            if prompt == self.categories.len() {
                self.categories.push(row.category);
            }
            let purpose = row.purpose.parse();
            let signs = signs.remove(&row.id).unwrap_or_default();
            labels.push(Label {
                id: RankingId(row.id),
                labeler: self.labelers.of(&AccountId(row.labeler_id)),
                prompt,
                task: TaskId(row.task_id),
                repeat_of: row.repeat_of.map(TaskId),
                purpose: purpose.map_err(|message: String| anyhow::anyhow!(message))?,
                is_adjudication: row.is_adjudication,
                form_version: row.form_version,
                at: row.created_at,
                active_ms: signs.active_ms,
                is_untouched: signs.is_untouched,
                is_too_fast: signs.is_too_fast,
                display_order: row.display_order,
                said: said.remove(&row.id).unwrap_or_default(),
            });
        }
        // Completions belong to the prompts of the tasks they were ranked in.
        self.prompt_of.resize(self.completions.all.len(), 0);
        for label in &labels {
            for own in &label.said {
                self.prompt_of[own.completion] = label.prompt;
            }
        }
        Ok(labels)
    }

    /// What was said of each completion, by ranking.
    async fn read_said(
        &mut self,
        db: &mut PgConnection,
        ids: &[Uuid],
    ) -> sqlx::Result<BTreeMap<Uuid, Vec<Said>>> {
        let mut rows = sqlx::query!(
            r#"
            SELECT ranking_id, completion_id, slot, rank, overall, scales, flags
            FROM ratings
            WHERE ranking_id = ANY($1)
            ORDER BY ranking_id, slot
            "#,
            ids
        )
        .fetch(db);
        let mut said: BTreeMap<Uuid, Vec<Said>> = BTreeMap::new();
        while let Some(row) = rows.try_next().await? {
            let mut scales: Vec<(usize, i16)> =
                row.overall.into_iter().map(|value| (0, value)).collect();
            scales.extend(entries(&row.scales).filter_map(|(key, value)| {
                let value = value.as_i64().and_then(|value| i16::try_from(value).ok())?;
                Some((self.scales.of(key), value))
            }));
            said.entry(row.ranking_id).or_default().push(Said {
                completion: self.completions.of(&CompletionId(row.completion_id)),
                slot: row.slot,
                rank: row.rank,
                scales,
                flags: answered(&mut self.flags, &row.flags),
            });
        }
        Ok(said)
    }

    /// The completions that were ranked, and the models that made them.
    async fn list_completions(
        &self,
        db: &mut PgConnection,
    ) -> sqlx::Result<(Vec<Completion>, Vec<Model>)> {
        let keys: Vec<Uuid> = self.completions.all.iter().map(|id| id.0).collect();
        // The length in bytes stands in the head of a stored text; that in characters does not.
        let mut rows = sqlx::query!(
            r#"
            SELECT c.id, octet_length(c.text) AS "length!", c.model, c.checkpoint_id
            FROM unnest($1::UUID[]) WITH ORDINALITY AS k (id, place)
            JOIN completions c ON c.id = k.id
            ORDER BY k.place
            "#,
            &keys
        )
        .fetch(db);
        let (mut completions, mut models) = (Vec::with_capacity(keys.len()), Numbers::default());
        let mut places = vec![0; self.prompts.all.len()];
        while let Some(row) = rows.try_next().await? {
            let prompt = self.prompt_of[completions.len()];
            let model = Model {
                name: row.model,
                checkpoint_id: row.checkpoint_id.map(CheckpointId),
            };
            completions.push(Completion {
                id: CompletionId(row.id),
                prompt,
                place: places[prompt],
                length: row.length as usize,
                model: models.of(&model),
            });
            places[prompt] += 1;
        }
        Ok((completions, models.all))
    }
}

/// Signs of how a ranking was made.
#[derive(Debug, Default)]
struct Signs {
    active_ms: Option<i64>,
    is_untouched: Option<bool>,
    is_too_fast: Option<bool>,
}

/// The signs of these rankings, as the view `attention` says what they are; it holds no imports and no
/// programs.
async fn read_signs(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<BTreeMap<Uuid, Signs>> {
    let rows = sqlx::query!(
        r#"
        SELECT r.id, x.active_ms, x.is_too_fast,
               CASE WHEN x.can_be_untouched THEN x.is_untouched END AS is_untouched
        FROM rankings r
        JOIN attention x ON x.assignment_id = r.assignment_id
        WHERE r.id = ANY($1)
        "#,
        ids
    )
    .fetch_all(db)
    .await?;
    let signs = rows.into_iter().map(|row| {
        let signs = Signs {
            active_ms: row.active_ms,
            is_untouched: row.is_untouched,
            is_too_fast: row.is_too_fast,
        };
        (row.id, signs)
    });
    Ok(signs.collect())
}

/// The newest answer of each of these gold tasks.
async fn read_gold(
    db: &mut PgConnection,
    tasks: &[Uuid],
) -> anyhow::Result<Vec<(TaskId, GoldAnswer)>> {
    let rows = sqlx::query!(
        r#"
        SELECT DISTINCT ON (task_id) task_id, answer
        FROM gold_answers
        WHERE task_id = ANY($1)
        ORDER BY task_id, version DESC
        "#,
        tasks
    )
    .fetch_all(db)
    .await?;
    let answers = rows.into_iter().map(|row| {
        let answer = serde_json::from_value(row.answer)?;
        Ok((TaskId(row.task_id), answer))
    });
    answers.collect()
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// Answered flags by number.
fn answered(numbers: &mut Numbers<String>, flags: &Value) -> Vec<(usize, bool)> {
    let answered =
        entries(flags).filter_map(|(key, value)| Some((numbers.of(key), value.as_bool()?)));
    answered.collect()
}
