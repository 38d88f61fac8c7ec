//! Rankings that were given elsewhere, with their prompts, completions, tasks and assignments. All
//! of it happens inside the import's transaction.
//!
//! An imported ranking belongs to an account of its own, switched off and named as in the file, so
//! that a file can never put words into the mouth of somebody who signs in here.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::form::Form;
use crate::domain::ids::{
    AccountId, AssignmentId, CompletionId, ProjectId, PromptId, RankingId, TaskId,
};
use crate::domain::ranking::Ranking;
use crate::domain::task::ChosenBy;
use crate::store::completions::{NewCompletion, NewTask};
use crate::store::copy::CopyRows;
use crate::store::imports::{
    FoundPrompt, MOST_LABELERS, Refusal, find_or_insert_prompts, open_tasks,
};
use crate::store::projects::{self, Project};
use crate::store::prompts::NewPrompt;

/// A ranking that was given elsewhere.
#[derive(Debug)]
pub struct NewRanking {
    /// The prompt.
    pub prompt: NewPrompt,
    /// 2 to 9 completions.
    pub completions: Vec<NewCompletion>,
    /// Judgements by index into the completions.
    pub ranking: Ranking,
    /// Indexes in the order shown; empty where the file does not say.
    pub display_order: Vec<i16>,
    /// Who ranked, as the file names them.
    pub labeler: String,
    /// Whether a program ranked.
    pub is_simulated: bool,
    /// The ranking's key where it was given, if the file says.
    pub ranking_id: Option<Uuid>,
    /// A decision between labels, which holds no place.
    pub is_adjudication: bool,
    /// Why the labeler got the task, if the file says.
    pub chosen_by: Option<ChosenBy>,
    /// Of reward models over the completions then, if the file says.
    pub disagreement: Option<f32>,
    /// Milliseconds of work, if the file says.
    pub active_ms: Option<i64>,
    /// Milliseconds open but not active, if the file says.
    pub idle_ms: Option<i64>,
}

/// The rules that imported rankings are stored under: the project's newest.
#[derive(Debug)]
pub struct Versions {
    /// Version of the guidelines; 0 when the project has none.
    pub guidelines: i32,
    /// Version of the form; 0 for the standard form.
    pub form_version: i32,
    /// The form.
    pub form: Form,
}

/// The newest guidelines and form of a project.
///
/// # Errors
/// When the stored form cannot be read.
pub async fn find_versions(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> anyhow::Result<Versions> {
    let guidelines = projects::find_guidelines(db, project_id).await?;
    let (form_version, form) = match projects::find_form(db, project_id).await? {
        Some((version, fields)) => (version, serde_json::from_value(fields)?),
        None => (0, Form::default()),
    };
    Ok(Versions {
        guidelines: guidelines.map_or(0, |(version, _)| version),
        form_version,
        form,
    })
}

/// Stores rankings with their prompts, completions, tasks, assignments and ratings, in
/// order; returns the indexes of those that are refused. A dozen statements, however many there are.
pub async fn insert_rankings(
    db: &mut PgConnection,
    project: &Project,
    versions: &Versions,
    rows: &[NewRanking],
) -> sqlx::Result<Vec<(usize, Refusal)>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let known = find_known(&mut *db, rows).await?;
    let prompts: Vec<&NewPrompt> = rows.iter().map(|row| &row.prompt).collect();
    let prompts = find_or_insert_prompts(&mut *db, project.id, &prompts).await?;
    let labelers = find_or_insert_labelers(&mut *db, rows).await?;
    let mut refused: BTreeMap<usize, Refusal> = BTreeMap::new();
    for (index, (row, prompt)) in rows.iter().zip(&prompts).enumerate() {
        if row.ranking_id.is_some_and(|id| known.contains(&id)) {
            refused.insert(index, Refusal::RankedAlready);
        } else if let Err(refusal) = prompt {
            refused.insert(index, *refusal);
        }
    }
    let mut tasks = Tasks::of(rows, &prompts, &refused);
    tasks.find(&mut *db, &prompts).await?;
    let mut places = Vec::with_capacity(rows.len());
    for (index, labeler_id) in labelers.into_iter().enumerate() {
        let Some(task) = tasks.of_row(index) else {
            continue;
        };
        match task.take_place(labeler_id, rows[index].is_adjudication) {
            Ok(place) => places.push((index, labeler_id, place)),
            Err(refusal) => {
                refused.insert(index, refusal);
            }
        }
    }
    tasks.open_or_grow(&mut *db, project.id).await?;
    let given: Vec<Given<'_>> = places
        .into_iter()
        .filter_map(|(index, labeler_id, place)| {
            Some(Given {
                row: &rows[index],
                assignment_id: AssignmentId::new(),
                labeler_id,
                place,
                task: tasks.of_row(index)?.stored.clone()?,
            })
        })
        .collect();
    insert_assignments(&mut *db, versions, &given).await?;
    insert_judgements(db, &given).await?;
    Ok(refused.into_iter().collect())
}

/// Which of the keys that rankings had elsewhere are keys here: a file that was exported from here.
async fn find_known(db: &mut PgConnection, rows: &[NewRanking]) -> sqlx::Result<HashSet<Uuid>> {
    let ids: Vec<Uuid> = rows.iter().filter_map(|row| row.ranking_id).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let known = sqlx::query_scalar!("SELECT id FROM rankings WHERE id = ANY ($1)", &ids)
        .fetch_all(db)
        .await?;
    Ok(known.into_iter().collect())
}

/// The accounts of those who ranked elsewhere, one for each row: the same name is the same account.
async fn find_or_insert_labelers(
    db: &mut PgConnection,
    rows: &[NewRanking],
) -> sqlx::Result<Vec<AccountId>> {
    let emails: Vec<String> = rows.iter().map(labeler_email).collect();
    let distinct: BTreeMap<&str, &NewRanking> =
        emails.iter().map(String::as_str).zip(rows).collect();
    let keys: Vec<Uuid> = distinct.iter().map(|_| AccountId::new().0).collect();
    let addresses: Vec<String> = distinct.keys().map(|email| (*email).to_owned()).collect();
    let names: Vec<String> = distinct
        .values()
        .map(|row| row.labeler.chars().take(100).collect())
        .collect();
    let kinds: Vec<bool> = distinct.values().map(|row| row.is_simulated).collect();
    let stored = sqlx::query!(
        r#"
        INSERT INTO accounts (id, email, name, roles, is_simulated, disabled_at)
        SELECT n.id, n.email, n.name, ARRAY['labeler'], n.is_simulated, now()
        FROM unnest($1::UUID[], $2::TEXT[], $3::TEXT[], $4::BOOLEAN[]) AS n (id, email, name, is_simulated)
        ON CONFLICT (email) DO UPDATE SET email = excluded.email
        RETURNING id, email
        "#,
        &keys,
        &addresses,
        &names,
        &kinds
    )
    .fetch_all(db)
    .await?;
    let ids: HashMap<String, AccountId> = stored
        .into_iter()
        .map(|row| (row.email, AccountId(row.id)))
        .collect();
    let find = |email: &String| ids.get(email).copied().ok_or(sqlx::Error::RowNotFound);
    emails.iter().map(find).collect()
}

/// The address of an account that nobody can sign in with.
fn labeler_email(row: &NewRanking) -> String {
    let kind = match row.is_simulated {
        true => "simulated",
        false => "person",
    };
    let digest = Sha256::digest(format!("{kind}:{}", row.labeler));
    format!("{}@imported.invalid", hex::encode(&digest[..8]))
}

/// A task that is in the database, with its completions in slot order.
#[derive(Debug, Clone)]
struct StoredTask {
    id: TaskId,
    completions: Vec<CompletionId>,
}

/// A task of the batch: the closed task that holds exactly these completions.
struct BatchTask<'r> {
    prompt: &'r FoundPrompt,
    completions: &'r [NewCompletion],
    /// None until it is found or opened.
    stored: Option<StoredTask>,
    /// Places that are held, before this batch and with it.
    n_before: i16,
    n_held: i16,
    labelers: HashSet<AccountId>,
}

impl BatchTask<'_> {
    /// The next place; none for a decision.
    fn take_place(
        &mut self,
        labeler_id: AccountId,
        is_adjudication: bool,
    ) -> Result<Option<i16>, Refusal> {
        if self.labelers.contains(&labeler_id) {
            return Err(Refusal::RankedAlready);
        }
        if is_adjudication {
            self.labelers.insert(labeler_id);
            return Ok(None);
        }
        if self.n_held >= MOST_LABELERS {
            return Err(Refusal::TooManyLabelers);
        }
        self.labelers.insert(labeler_id);
        self.n_held += 1;
        Ok(Some(self.n_held - 1))
    }
}

/// What makes completions of a prompt the same task.
type TaskKey<'r> = (PromptId, Vec<(&'r str, &'r str)>);

fn key_of(prompt_id: PromptId, completions: &[NewCompletion]) -> TaskKey<'_> {
    let texts = completions
        .iter()
        .map(|item| (item.text.as_str(), item.model.as_str()));
    (prompt_id, texts.collect())
}

/// The tasks of a batch, each once, and which row belongs to which.
struct Tasks<'r> {
    tasks: Vec<BatchTask<'r>>,
    of_key: HashMap<TaskKey<'r>, usize>,
    of_row: HashMap<usize, usize>,
}

impl<'r> Tasks<'r> {
    fn of(
        rows: &'r [NewRanking],
        prompts: &'r [Result<FoundPrompt, Refusal>],
        refused: &BTreeMap<usize, Refusal>,
    ) -> Self {
        let mut all = Self {
            tasks: Vec::new(),
            of_key: HashMap::new(),
            of_row: HashMap::new(),
        };
        for (index, (row, prompt)) in rows.iter().zip(prompts).enumerate() {
            let Ok(prompt) = prompt else { continue };
            if refused.contains_key(&index) {
                continue;
            }
            let tasks = &mut all.tasks;
            let task = *all
                .of_key
                .entry(key_of(prompt.id, &row.completions))
                .or_insert_with(|| {
                    tasks.push(BatchTask {
                        prompt,
                        completions: &row.completions,
                        stored: None,
                        n_before: 0,
                        n_held: 0,
                        labelers: HashSet::new(),
                    });
                    tasks.len() - 1
                });
            all.of_row.insert(index, task);
        }
        all
    }

    fn of_row(&mut self, index: usize) -> Option<&mut BatchTask<'r>> {
        let task = self.of_row.get(&index)?;
        self.tasks.get_mut(*task)
    }

    /// Finds those that an earlier batch or an earlier import has made, with their labelers.
    async fn find(
        &mut self,
        db: &mut PgConnection,
        prompts: &[Result<FoundPrompt, Refusal>],
    ) -> sqlx::Result<()> {
        let with_task = prompts.iter().flatten().filter(|prompt| prompt.has_task);
        let ids: Vec<Uuid> = with_task.map(|prompt| prompt.id.0).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let found = sqlx::query!(
            r#"
            SELECT t.id, t.prompt_id AS "prompt_id!",
                   array_agg(c.id ORDER BY k.slot) AS "completions!",
                   array_agg(c.text ORDER BY k.slot) AS "texts!",
                   array_agg(c.model ORDER BY k.slot) AS "models!",
                   (SELECT coalesce(max(a.place) + 1, 0)::SMALLINT FROM assignments a
                    WHERE a.task_id = t.id) AS "n_held!",
                   ARRAY(SELECT a.labeler_id FROM assignments a WHERE a.task_id = t.id) AS "labelers!"
            FROM tasks t
            JOIN candidates k ON k.task_id = t.id
            JOIN completions c ON c.id = k.completion_id
            WHERE t.prompt_id = ANY ($1) AND t.run_id IS NULL AND t.closed_at IS NOT NULL
              AND t.purpose = 'label' AND t.kind = 'rank'
            GROUP BY t.id
            ORDER BY t.id
            "#,
            &ids
        )
        .fetch_all(db)
        .await?;
        for row in &found {
            let texts = row.texts.iter().map(String::as_str);
            let models = row.models.iter().map(String::as_str);
            let key = (PromptId(row.prompt_id), texts.zip(models).collect());
            let Some(task) = self.of_key.get(&key) else {
                continue;
            };
            let task = &mut self.tasks[*task];
            // Of several the oldest.
            if task.stored.is_some() {
                continue;
            }
            (task.n_before, task.n_held) = (row.n_held, row.n_held);
            task.labelers = row.labelers.iter().copied().map(AccountId).collect();
            task.stored = Some(StoredTask {
                id: TaskId(row.id),
                completions: row.completions.iter().copied().map(CompletionId).collect(),
            });
        }
        Ok(())
    }

    /// Opens those that are new, and closes them at once, since nobody is to rank them here; lets the
    /// others grow to the places that are held now.
    async fn open_or_grow(
        &mut self,
        db: &mut PgConnection,
        project_id: ProjectId,
    ) -> sqlx::Result<()> {
        let missing =
            |task: &&mut BatchTask<'_>| task.stored.is_none() && !task.labelers.is_empty();
        let mut new: Vec<&mut BatchTask<'_>> = self.tasks.iter_mut().filter(missing).collect();
        let rows: Vec<NewTask<'_>> = new
            .iter()
            .map(|task| NewTask {
                prompt_id: task.prompt.id,
                language: task.prompt.language.as_deref(),
                overlap: task.n_held.max(1),
                completions: task.completions,
            })
            .collect();
        let opened = open_tasks(&mut *db, project_id, &rows).await?;
        let ids: Vec<Uuid> = opened.iter().map(|task| task.id.0).collect();
        for (task, opened) in new.iter_mut().zip(opened) {
            task.stored = Some(StoredTask {
                id: opened.id,
                completions: opened.completions,
            });
        }
        sqlx::query!(
            "UPDATE tasks SET closed_at = now() WHERE id = ANY ($1)",
            &ids
        )
        .execute(&mut *db)
        .await?;
        let grown = self.tasks.iter().filter(|task| task.n_held > task.n_before);
        let (ids, places): (Vec<Uuid>, Vec<i16>) = grown
            .filter_map(|task| Some((task.stored.as_ref()?.id.0, task.n_held)))
            .unzip();
        sqlx::query!(
            r#"
            UPDATE tasks t SET overlap = n.places
            FROM unnest($1::UUID[], $2::SMALLINT[]) AS n (id, places)
            WHERE t.id = n.id AND t.overlap < n.places
            "#,
            &ids,
            &places
        )
        .execute(db)
        .await?;
        Ok(())
    }
}

/// A ranking that is written, with whom and what it belongs to.
struct Given<'r> {
    row: &'r NewRanking,
    assignment_id: AssignmentId,
    labeler_id: AccountId,
    place: Option<i16>,
    task: StoredTask,
}

async fn insert_assignments(
    db: &mut PgConnection,
    versions: &Versions,
    given: &[Given<'_>],
) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = given.iter().map(|item| item.assignment_id.0).collect();
    let tasks: Vec<Uuid> = given.iter().map(|item| item.task.id.0).collect();
    let labelers: Vec<Uuid> = given.iter().map(|item| item.labeler_id.0).collect();
    let places: Vec<Option<i16>> = given.iter().map(|item| item.place).collect();
    // Postgres has no list of lists of different lengths, but reads one from a text.
    let orders: Vec<String> = given
        .iter()
        .map(|item| {
            let slots: Vec<String> = item.row.display_order.iter().map(i16::to_string).collect();
            format!("{{{}}}", slots.join(","))
        })
        .collect();
    let decisions: Vec<bool> = given.iter().map(|item| item.row.is_adjudication).collect();
    let reasons: Vec<Option<String>> = given
        .iter()
        .map(|item| item.row.chosen_by.map(|by| by.as_str().to_owned()))
        .collect();
    let disagreements: Vec<Option<f32>> = given.iter().map(|item| item.row.disagreement).collect();
    sqlx::query!(
        r#"
        INSERT INTO assignments (id, task_id, labeler_id, place, status, display_order, guidelines_version,
                                 form_version, lease_until, ended_at, is_adjudication, chosen_by, disagreement)
        SELECT n.id, n.task_id, n.labeler_id, n.place, 'submitted', n.display_order::SMALLINT[], $6, $7, now(), now(),
               n.is_adjudication, n.chosen_by, n.disagreement
        FROM unnest($1::UUID[], $2::UUID[], $3::UUID[], $4::SMALLINT[], $5::TEXT[], $8::BOOLEAN[], $9::TEXT[],
                    $10::REAL[])
             AS n (id, task_id, labeler_id, place, display_order, is_adjudication, chosen_by, disagreement)
        "#,
        &ids,
        &tasks,
        &labelers,
        &places as &[Option<i16>],
        &orders,
        versions.guidelines,
        versions.form_version,
        &decisions,
        &reasons as &[Option<String>],
        &disagreements as &[Option<f32>]
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes rankings with their ratings.
async fn insert_judgements(db: &mut PgConnection, given: &[Given<'_>]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = given.iter().map(|_| RankingId::new().0).collect();
    let assignments: Vec<Uuid> = given.iter().map(|item| item.assignment_id.0).collect();
    let rankings = given.iter().map(|item| &item.row.ranking);
    let digests: Vec<Vec<u8>> = rankings
        .clone()
        .map(|ranking| Sha256::digest(format!("{ranking:?}")).to_vec())
        .collect();
    let notes: Vec<String> = rankings.clone().map(|own| own.note.clone()).collect();
    let strengths: Vec<Option<i16>> = rankings.clone().map(|own| own.strength).collect();
    let all_bad: Vec<bool> = rankings.map(|own| own.is_all_bad).collect();
    let active: Vec<Option<i64>> = given.iter().map(|item| item.row.active_ms).collect();
    let idle: Vec<Option<i64>> = given.iter().map(|item| item.row.idle_ms).collect();
    sqlx::query!(
        r#"
        INSERT INTO rankings (id, assignment_id, version, idempotency_key, request_sha256, note, strength, is_all_bad,
                              active_ms, idle_ms)
        SELECT n.id, n.assignment_id, 1, 'import', n.digest, n.note, n.strength, n.is_all_bad, n.active_ms, n.idle_ms
        FROM unnest($1::UUID[], $2::UUID[], $3::BYTEA[], $4::TEXT[], $5::SMALLINT[], $6::BOOLEAN[], $7::BIGINT[],
                    $8::BIGINT[])
             AS n (id, assignment_id, digest, note, strength, is_all_bad, active_ms, idle_ms)
        "#,
        &ids,
        &assignments,
        &digests,
        &notes,
        &strengths as &[Option<i16>],
        &all_bad,
        &active as &[Option<i64>],
        &idle as &[Option<i64>]
    )
    .execute(&mut *db)
    .await?;
    let mut ratings = CopyRows::new(8);
    for (id, item) in ids.iter().zip(given) {
        let key_of = |slot: i16| item.task.completions[slot as usize].0;
        for judgement in &item.row.ranking.judgements {
            ratings
                .row()
                .uuid(*id)
                .uuid(key_of(judgement.slot))
                .small(judgement.slot)
                .small_or_null(judgement.rank)
                .small_or_null(judgement.rating)
                .json(&serde_json::json!(judgement.flags))
                .json(&serde_json::json!(judgement.scales))
                .text(&judgement.note);
        }
    }
    ratings
        .send(
            db,
            "COPY ratings (ranking_id, completion_id, slot, rank, overall, flags, scales, note) FROM STDIN (FORMAT BINARY)",
        )
        .await
}
