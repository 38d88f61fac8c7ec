//! Lines of import files as rows, valid by construction: what cannot be stored, or could not be
//! trained on later, is refused here with the name of its field.

use serde_json::{Map, Value};
use trainer::records::{
    DemonstrationRecord, Fault, PromptRecord, RankedCompletion, RankedPrompt, Record, TextRecord,
};

use crate::domain::form::Form;
use crate::domain::opening::GivenText;
use crate::domain::ranking::{
    CANDIDATES, Judgement, LONGEST_CANDIDATE_NOTE, LONGEST_NOTE, Ranking, STRENGTHS,
};
use crate::domain::task::ChosenBy;
use crate::domain::writing::LONGEST_TEXT;
use crate::message::Message;
use crate::store::completions::NewCompletion;
use crate::store::demonstrations::NewDemonstration;
use crate::store::imported_rankings::NewRanking;
use crate::store::imports::NewCandidates;
use crate::store::prompts::NewPrompt;
use crate::store::texts::NewText;

mod faults;
mod fields;

use fields::{Fields, messages, read, read_items};

/// What a file to import holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ImportKind {
    /// `{"id","prompt","category","customer","language"}`: what models are asked.
    Prompts,
    /// `{"id","messages":[…],"category","writing"}`: answers that people wrote.
    Demonstrations,
    /// `{"id","text"}`: plain texts of the pretraining mix.
    Texts,
    /// Ranked completions, one ranking a line, as `plackett export` writes them.
    Rankings,
    /// Prompts with completions to be ranked, as `plackett generate` writes them.
    Candidates,
    /// `{"use_case","language"}`: what customers want to do; a task each, to write a demonstration from.
    UseCases,
}

impl ImportKind {
    /// Every kind, in the order pages list them.
    pub const ALL: [Self; 6] = [
        Self::Prompts,
        Self::Demonstrations,
        Self::Texts,
        Self::Rankings,
        Self::Candidates,
        Self::UseCases,
    ];

    /// The word for forms and `--kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prompts => "prompts",
            Self::Demonstrations => "demonstrations",
            Self::Texts => "texts",
            Self::Rankings => "rankings",
            Self::Candidates => "candidates",
            Self::UseCases => "use-cases",
        }
    }

    /// The fields that a line may have; any other is refused, so that a misspelt one is noticed.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            // A review belongs to whoever gave it: an exported line may have one, but none is imported.
            Self::Prompts => &["id", "prompt", "category", "customer", "language", "review"],
            Self::Demonstrations => &["id", "messages", "category", "writing"],
            Self::Texts => &["id", "text"],
            Self::UseCases => &["use_case", "language"],
            Self::Candidates => &[
                "id",
                "prompt",
                "category",
                "customer",
                "language",
                "completions",
            ],
            Self::Rankings => &[
                "id",
                "prompt",
                "category",
                "customer",
                "language",
                "completions",
                "labeler",
                "split",
                "simulated",
                "display_order",
                "form_version",
                "guidelines_version",
                "note",
                "ranking_id",
                "adjudication",
                "chosen_by",
                "disagreement",
                "strength",
                "all_bad",
                "active_ms",
                "idle_ms",
            ],
        }
    }
}

/// One record, ready to be stored.
#[derive(Debug)]
pub enum Row {
    /// A prompt.
    Prompt(NewPrompt),
    /// A demonstration.
    Demonstration(NewDemonstration),
    /// A plain text.
    Text(NewText),
    /// A prompt with ranked completions.
    Ranking(NewRanking),
    /// A prompt with completions to rank.
    Candidates(NewCandidates),
    /// A use case to write a demonstration from.
    UseCase(GivenText),
}

/// A wrong field and what is wrong with it; no field where the whole line or file is.
pub type Complaint = (String, Message);

fn complaint(field: impl Into<String>, message: Message) -> Complaint {
    (field.into(), message)
}

/// A number outside its bounds.
fn outside(low: i16, high: i16) -> Message {
    Message::new("error-outside")
        .with("low", low)
        .with("high", high)
}

/// A text that is longer than so many characters.
fn longer_than(most: usize) -> Message {
    Message::new("error-longer-than").with("most", most)
}

/// Reads one line of a JSONL file.
///
/// # Errors
/// The first wrong field.
pub fn parse_line(kind: ImportKind, line: &str, form: &Form) -> Result<Row, Complaint> {
    let value: Value =
        serde_json::from_str(line).map_err(|error| complaint("", no_object(&error)))?;
    let Value::Object(object) = value else {
        return Err(complaint("", Message::new("import-no-object")));
    };
    parse_object(kind, Fields::new(object, kind.fields())?, form)
}

/// Reads one record of a CSV file of prompts, as pairs of header and cell.
///
/// # Errors
/// The first wrong field.
pub fn parse_cells<'a>(cells: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Row, Complaint> {
    let object = cells
        .filter(|(name, cell)| !cell.is_empty() || matches!(*name, "id" | "prompt"))
        .map(|(name, cell)| (name.to_owned(), Value::String(cell.to_owned())))
        .collect();
    let kind = ImportKind::Prompts;
    parse_object(kind, Fields::new(object, kind.fields())?, &Form::default())
}

fn parse_object(kind: ImportKind, mut fields: Fields, form: &Form) -> Result<Row, Complaint> {
    match kind {
        ImportKind::Prompts => Ok(Row::Prompt(prompt(&mut fields)?)),
        ImportKind::Demonstrations => demonstration(&mut fields).map(Row::Demonstration),
        ImportKind::Texts => text(&mut fields).map(Row::Text),
        ImportKind::Candidates => candidates(&mut fields).map(Row::Candidates),
        ImportKind::Rankings => ranking(&mut fields, form).map(Row::Ranking),
        ImportKind::UseCases => use_case(&mut fields).map(Row::UseCase),
    }
}

fn check(record: &impl Record) -> Result<(), Complaint> {
    match record.complaint() {
        Some((field, fault)) => Err(complaint(field, faults::message(&fault))),
        None => Ok(()),
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, Complaint> {
    serde_json::to_value(value).map_err(|error| complaint("", no_object(&error)))
}

/// A line is read alone, so that its own number would be taken for one of the file's.
fn no_object(error: &serde_json::Error) -> Message {
    let reason = error
        .to_string()
        .replace(" at line 1 column ", " at column ");
    Message::new("import-not-json").with("reason", reason)
}

fn prompt(fields: &mut Fields) -> Result<NewPrompt, Complaint> {
    let record = PromptRecord {
        id: fields.id()?,
        prompt: fields.prompt()?,
        category: Some(fields.category()?),
    };
    check(&record)?;
    Ok(NewPrompt {
        body: to_json(&record.prompt)?,
        external_id: record.id,
        category: record.category.unwrap_or_default(),
        customer: fields.customer()?,
        language: fields.language()?,
    })
}

fn demonstration(fields: &mut Fields) -> Result<NewDemonstration, Complaint> {
    let record = DemonstrationRecord {
        id: fields.id()?,
        messages: messages("messages", fields.required("messages")?)?,
        writing: fields.optional("writing")?,
    };
    check(&record)?;
    Ok(NewDemonstration {
        messages: to_json(&record.messages)?,
        external_id: record.id,
        category: fields.category()?,
        writing: record.writing,
    })
}

fn text(fields: &mut Fields) -> Result<NewText, Complaint> {
    let record = TextRecord {
        id: fields.id()?,
        text: fields.required("text")?,
    };
    check(&record)?;
    Ok(NewText {
        external_id: record.id,
        body: record.text,
    })
}

fn use_case(fields: &mut Fields) -> Result<GivenText, Complaint> {
    let text: String = fields.required("use_case")?;
    let text = text.trim().to_owned();
    match text.chars().count() {
        0 => Err(complaint("use_case", Message::new("error-is-empty"))),
        n if n > LONGEST_TEXT => Err(complaint("use_case", longer_than(LONGEST_TEXT))),
        _ => Ok(GivenText {
            text,
            language: fields.language()?,
        }),
    }
}

/// A completion of a candidates file.
#[derive(serde::Deserialize)]
struct CandidateRecord {
    #[serde(default)]
    id: String,
    text: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    sampling: Map<String, Value>,
    #[serde(default = "yes")]
    is_finished: bool,
}

fn yes() -> bool {
    true
}

fn candidates(fields: &mut Fields) -> Result<NewCandidates, Complaint> {
    let prompt = prompt(fields)?;
    let known = ["id", "text", "model", "sampling", "is_finished"];
    let records: Vec<CandidateRecord> =
        read_items("completions", fields.required("completions")?, &known)?;
    check_number(records.len(), *CANDIDATES.start())?;
    check_ids(records.iter().map(|record| record.id.as_str()))?;
    check_texts(records.iter().map(|record| record.text.as_str()))?;
    let completions = records
        .into_iter()
        .map(|record| NewCompletion {
            text: record.text,
            model: named_model(Some(record.model)),
            checkpoint_id: None,
            sampling: Value::Object(record.sampling),
            is_finished: record.is_finished,
        })
        .collect();
    Ok(NewCandidates {
        prompt,
        completions,
    })
}

fn named_model(model: Option<String>) -> String {
    model
        .filter(|name| !name.trim().is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

fn check_number(n: usize, fewest: usize) -> Result<(), Complaint> {
    let most = *CANDIDATES.end();
    if (fewest..=most).contains(&n) {
        return Ok(());
    }
    let message = Message::new("import-n-completions")
        .with("n", n)
        .with("fewest", fewest)
        .with("most", most);
    Err(complaint("completions", message))
}

fn check_ids<'a>(ids: impl Iterator<Item = &'a str>) -> Result<(), Complaint> {
    let mut seen = std::collections::BTreeSet::new();
    for id in ids.filter(|id| !id.is_empty()) {
        if !seen.insert(id) {
            let fault = Fault::IdTwice(id.to_owned());
            return Err(complaint("completions", faults::message(&fault)));
        }
    }
    Ok(())
}

fn check_texts<'a>(mut texts: impl Iterator<Item = &'a str>) -> Result<(), Complaint> {
    match texts.position(|text| text.trim().is_empty()) {
        None => Ok(()),
        Some(index) => {
            let fault = Fault::EmptyCompletion(index + 1);
            Err(complaint("completions", faults::message(&fault)))
        }
    }
}

/// A completion of a rankings file.
#[derive(serde::Deserialize)]
struct GivenCompletion {
    id: String,
    text: String,
    #[serde(default)]
    model: Option<String>,
    /// Null where the labeler left it unranked; a line that says nothing is wrong.
    #[serde(deserialize_with = "Option::deserialize")]
    rank: Option<u32>,
    #[serde(default)]
    rating: Option<u8>,
    #[serde(default)]
    flags: std::collections::BTreeMap<String, bool>,
    #[serde(default)]
    scales: std::collections::BTreeMap<String, i16>,
    #[serde(default)]
    note: String,
}

impl GivenCompletion {
    /// As the trainer reads it; none for one without a rank.
    fn ranked(&self) -> Option<RankedCompletion> {
        Some(RankedCompletion {
            id: self.id.clone(),
            text: self.text.clone(),
            model: self.model.clone(),
            rank: self.rank?,
            rating: self.rating,
            flags: self.flags.clone(),
        })
    }
}

fn ranking(fields: &mut Fields, form: &Form) -> Result<NewRanking, Complaint> {
    let prompt = prompt(fields)?;
    let known = [
        "id", "text", "model", "rank", "rating", "flags", "scales", "note",
    ];
    let given: Vec<GivenCompletion> =
        read_items("completions", fields.required("completions")?, &known)?;
    let n = given.len();
    check_number(n, 2)?;
    check_ids(given.iter().map(|item| item.id.as_str()))?;
    let labeler = fields.optional::<String>("labeler")?;
    let record = RankedPrompt {
        id: prompt.external_id.clone(),
        prompt: read("prompt", prompt.body.clone())?,
        completions: given.iter().filter_map(GivenCompletion::ranked).collect(),
        labeler: None,
        category: None,
        customer: prompt.customer.clone(),
        split: None,
    };
    check(&record)?;
    check_texts(given.iter().map(|item| item.text.as_str()))?;
    let mut ranking = judgements(&given, form)?;
    ranking.note = note(fields)?;
    ranking.strength = strength(fields, &ranking)?;
    ranking.is_all_bad = fields.optional("all_bad")?.unwrap_or(false);
    Ok(NewRanking {
        ranking,
        display_order: display_order(fields, n)?,
        is_simulated: fields.optional("simulated")?.unwrap_or(false),
        ranking_id: fields.optional("ranking_id")?,
        is_adjudication: fields.optional("adjudication")?.unwrap_or(false),
        chosen_by: fields.optional::<ChosenBy>("chosen_by")?,
        disagreement: fields.optional("disagreement")?,
        active_ms: fields.milliseconds("active_ms")?,
        idle_ms: fields.milliseconds("idle_ms")?,
        labeler: labeler.unwrap_or_else(|| "unnamed".to_owned()),
        prompt,
        completions: given.into_iter().map(ranked).collect(),
    })
}

fn note(fields: &mut Fields) -> Result<String, Complaint> {
    let note = fields.optional::<String>("note")?.unwrap_or_default();
    match note.chars().count() <= LONGEST_NOTE {
        true => Ok(note),
        false => Err(complaint("note", longer_than(LONGEST_NOTE))),
    }
}

/// How much better the preferred one of two is, where the line says.
fn strength(fields: &mut Fields, ranking: &Ranking) -> Result<Option<i16>, Complaint> {
    let Some(strength) = fields.optional("strength")? else {
        return Ok(None);
    };
    let ranks: Vec<Option<i16>> = ranking.judgements.iter().map(|item| item.rank).collect();
    let message = match ranks[..] {
        [first, second] if first == second => Message::new("error-strength-of-tie"),
        [_, _] if STRENGTHS.contains(&strength) => return Ok(Some(strength)),
        [_, _] => outside(*STRENGTHS.start(), *STRENGTHS.end()),
        _ => Message::new("error-strength-of-two"),
    };
    Err(complaint("strength", message))
}

fn ranked(completion: GivenCompletion) -> NewCompletion {
    NewCompletion {
        text: completion.text,
        model: named_model(completion.model),
        checkpoint_id: None,
        sampling: Value::Object(Map::new()),
        is_finished: true,
    }
}

/// Slots in the order shown; none where the line does not say, since the file's order is not what was shown.
fn display_order(fields: &mut Fields, n: usize) -> Result<Vec<i16>, Complaint> {
    let Some(order) = fields.optional::<Vec<i16>>("display_order")? else {
        return Ok(Vec::new());
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted.into_iter().eq(0..n as i16) {
        Ok(order)
    } else {
        let message = Message::new("import-display-order").with("last", n - 1);
        Err(complaint("display_order", message))
    }
}

/// Ranks without gaps, ratings within the form's scales, flags that the form asks.
fn judgements(completions: &[GivenCompletion], form: &Form) -> Result<Ranking, Complaint> {
    let mut used: Vec<u32> = completions.iter().filter_map(|item| item.rank).collect();
    used.sort_unstable();
    used.dedup();
    let scale = form.overall.min..=form.overall.max;
    let mut judgements = Vec::new();
    for (index, item) in completions.iter().enumerate() {
        let at = |name: &str| format!("completions[{}].{name}", index + 1);
        let rating = item.rating.map(i16::from);
        if rating.is_some_and(|rating| !scale.contains(&rating)) {
            let message = outside(*scale.start(), *scale.end());
            return Err(complaint(at("rating"), message));
        }
        for (key, value) in &item.scales {
            let message = match form.scale(key) {
                None => Message::new("import-no-such-scale"),
                Some(own) if !(own.min..=own.max).contains(value) => outside(own.min, own.max),
                Some(_) => continue,
            };
            return Err(complaint(at(&format!("scales.{key}")), message));
        }
        if let Some(key) = item.flags.keys().find(|key| !form.has_flag(key)) {
            let message = Message::new("import-no-such-flag");
            return Err(complaint(at(&format!("flags.{key}")), message));
        }
        if item.note.chars().count() > LONGEST_CANDIDATE_NOTE {
            return Err(complaint(at("note"), longer_than(LONGEST_CANDIDATE_NOTE)));
        }
        let rank = used.iter().position(|rank| Some(*rank) == item.rank);
        judgements.push(Judgement {
            slot: index as i16,
            rank: rank.map(|index| index as i16 + 1),
            rating,
            scales: item.scales.clone(),
            flags: item.flags.clone(),
            note: item.note.clone(),
        });
    }
    Ok(Ranking {
        judgements,
        strength: None,
        is_all_bad: false,
        is_untouched: false,
        note: String::new(),
    })
}

#[cfg(test)]
mod tests;
