//! Random data, settings, models and savepoints: nothing panics, and whatever cannot be ends in a
//! sentence. `PROPTEST_CASES` sets how many cases each test draws; whatever failed has a test of
//! its own.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fuzzing;
mod place;
mod small_gguf;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::Device;
use fuzzing::{Change, changes, corrupted, ends_well, few, hostile_lines, tamed, template};
use place::{Place, demonstrations, prompts, rankings, texts};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{TestCaseError, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tiny::Kept;
use trainer::config::{DpoConfig, LoraConfig, PpoConfig, Preset, RewardConfig, SftConfig, overlay};
use trainer::error::Result;
use trainer::memory::Estimate;
use trainer::memory::ranked::{self, Ranked, RankedRows};
use trainer::memory::runs::{self, Demonstrations, Players};
use trainer::model::attention::Pass;
use trainer::model::batch::TokenBatch;
use trainer::model::transformer::{Transformer, TransformerConfig};
use trainer::model::weights::Trainable;
use trainer::progress::{Event, Progress};
use trainer::records::{DemonstrationRecord, Prompt, RankedPrompt, Record, TextRecord};
use trainer::savepoint::SavePolicy;
use trainer::text::TextCodec;
use trainer::{checkpoint, dpo, ppo, records, reward, sft};

type Tested = std::result::Result<(), TestCaseError>;

/// A place that all cases read from, with a reward model and less data than other tests have.
fn shared() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::new();
        place.trained_reward("judge");
        tiny::write_lines(&place.path("rankings.jsonl"), rankings(6));
        tiny::write_lines(&place.path("demonstrations.jsonl"), demonstrations(6));
        tiny::write_lines(&place.path("prompts.jsonl"), prompts(5));
        tiny::write_lines(&place.path("texts.jsonl"), texts(4));
        place
    })
}

/// A folder for one case's run.
fn fresh_out() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    (folder, out)
}

fn run_sft(data: &Path, base: &Path, config: &SftConfig) -> Result<sft::Outcome> {
    let (_folder, out) = fresh_out();
    let mut job = shared().sft("unused");
    job.config = config.clone();
    (job.data, job.base, job.out) = (data.to_owned(), base.to_owned(), out);
    sft::run(&job, &mut Kept::default())
}

fn run_reward(data: &Path, base: &Path, config: &RewardConfig) -> Result<sft::Outcome> {
    let (_folder, out) = fresh_out();
    let mut job = shared().reward("unused");
    job.config = config.clone();
    (job.data, job.base, job.out) = (data.to_owned(), base.to_owned(), out);
    reward::run(&job, &mut Kept::default())
}

fn run_ppo(prompts: &Path, texts: &Path, base: &Path, config: &PpoConfig) -> Result<sft::Outcome> {
    let (_folder, out) = fresh_out();
    let mut job = shared().ppo(&shared().path("judge/checkpoint"), "unused");
    job.config = config.clone();
    (job.prompts, job.texts) = (prompts.to_owned(), Some(texts.to_owned()));
    (job.base, job.out) = (base.to_owned(), out);
    ppo::run(&job, &mut Kept::default())
}

fn run_dpo(data: &Path, base: &Path, config: &DpoConfig) -> Result<sft::Outcome> {
    let (_folder, out) = fresh_out();
    let mut job = shared().dpo("unused");
    job.config = config.clone();
    (job.data, job.base, job.out) = (data.to_owned(), base.to_owned(), out);
    dpo::run(&job, &mut Kept::default())
}

fn quick_sft() -> SftConfig {
    SftConfig {
        epochs: 1,
        batch_size: 64,
        ..SftConfig::preset(Preset::Tiny)
    }
}

fn quick_reward() -> RewardConfig {
    RewardConfig {
        epochs: 1,
        batch_prompts: 64,
        ..RewardConfig::preset(Preset::Tiny)
    }
}

fn quick_ppo() -> PpoConfig {
    PpoConfig {
        iterations: 1,
        batch_episodes: 2,
        minibatches: 1,
        max_new_tokens: 3,
        evaluation_prompts: 1,
        ..PpoConfig::preset(Preset::Tiny)
    }
}

/// Reads a file of these bytes.
fn read<R: Record>(bytes: &[u8]) -> (tempfile::NamedTempFile, Result<Vec<R>>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let found = records::read(file.path());
    (file, found)
}

proptest! {
    #![proptest_config(few(64))]

    #[test]
    fn demonstrations_of_any_bytes_are_learnt_or_refused(bytes in hostile_lines(demonstrations(3))) {
        let (file, _) = read::<TextRecord>(&bytes);
        let base = shared().path("base");
        ends_well(run_sft(file.path(), &base, &quick_sft()))?;
    }

    #[test]
    fn rankings_of_any_bytes_are_learnt_or_refused(bytes in hostile_lines(rankings(3))) {
        let (file, found) = read::<RankedPrompt>(&bytes);
        ends_well(found)?;
        let base = shared().path("base");
        ends_well(run_reward(file.path(), &base, &quick_reward()))?;
    }

    #[test]
    fn prompts_and_texts_of_any_bytes_are_used_or_refused(
        asked in hostile_lines(prompts(3)),
        written in hostile_lines(texts(3)),
    ) {
        let place = shared();
        let (asked, _) = read::<TextRecord>(&asked);
        let (written, found) = read::<TextRecord>(&written);
        ends_well(found)?;
        let (prompts, texts) = (place.path("prompts.jsonl"), place.path("texts.jsonl"));
        let (base, config) = (place.path("base"), quick_ppo());
        ends_well(run_ppo(asked.path(), &texts, &base, &config))?;
        ends_well(run_ppo(&prompts, written.path(), &base, &config))?;
    }
}

/// The settings that `changes` make of a preset, if they are settings and within their ranges;
/// what a run would take long with is cut down.
fn settings<C: Serialize + DeserializeOwned>(
    preset: &C,
    changes: &[Change],
    check: impl Fn(&C) -> Result<()>,
) -> std::result::Result<Option<C>, TestCaseError> {
    let value = serde_json::to_value(preset).unwrap();
    let mut asked = json!({});
    for change in changes {
        change.add_to(&mut asked, &value);
    }
    let Some(config) = ends_well(overlay(preset, &asked))? else {
        return Ok(None);
    };
    if ends_well(check(&config))?.is_none() {
        return Ok(None);
    }
    let config: C = serde_json::from_value(tamed(serde_json::to_value(config).unwrap())).unwrap();
    Ok(check(&config).is_ok().then_some(config))
}

proptest! {
    #![proptest_config(few(48))]

    #[test]
    fn any_settings_of_fine_tuning_train_or_are_refused(changes in changes()) {
        let preset = SftConfig::preset(Preset::Tiny);
        if let Some(config) = settings(&preset, &changes, SftConfig::check)? {
            let place = shared();
            let (data, base) = (place.path("demonstrations.jsonl"), place.path("base"));
            ends_well(run_sft(&data, &base, &config))?;
        }
    }

    #[test]
    fn any_settings_of_a_reward_model_train_or_are_refused(changes in changes()) {
        let preset = RewardConfig::preset(Preset::Tiny);
        if let Some(config) = settings(&preset, &changes, RewardConfig::check)? {
            let place = shared();
            let (data, base) = (place.path("rankings.jsonl"), place.path("base"));
            ends_well(run_reward(&data, &base, &config))?;
        }
    }

    #[test]
    fn any_settings_of_dpo_train_or_are_refused(changes in changes()) {
        let preset = DpoConfig::preset(Preset::Tiny);
        if let Some(config) = settings(&preset, &changes, DpoConfig::check)? {
            let place = shared();
            let (data, base) = (place.path("rankings.jsonl"), place.path("base"));
            ends_well(run_dpo(&data, &base, &config))?;
        }
    }

    #[test]
    fn any_settings_of_ppo_train_or_are_refused(changes in changes()) {
        let preset = PpoConfig { iterations: 2, ..PpoConfig::preset(Preset::Tiny) };
        if let Some(config) = settings(&preset, &changes, PpoConfig::check)? {
            let place = shared();
            let (prompts, texts) = (place.path("prompts.jsonl"), place.path("texts.jsonl"));
            ends_well(run_ppo(&prompts, &texts, &place.path("base"), &config))?;
        }
    }
}

/// A copy of the tiny model's folder, with one file written anew.
fn model_with(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(shared().path("base")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    std::fs::write(folder.path().join(name), bytes).unwrap();
    folder
}

/// Looks at a model folder in every way, and computes with it if it loads.
fn use_model(folder: &Path) -> Tested {
    ends_well(checkpoint::inspect(folder))?;
    ends_well(trainer::model::heads::RewardModel::load(
        folder,
        &Device::Cpu,
        Trainable::Nothing,
    ))?;
    let model = Transformer::load(folder, &Device::Cpu, Trainable::UpperLayers(1));
    if let Some(model) = ends_well(model)? {
        let rows = [vec![1, 2, 3], vec![4]];
        let batch = TokenBatch::new(&rows, 1, &Device::Cpu).unwrap();
        ends_well(model.hidden(&batch, Pass::Tracked))?;
        if let Some(mut cache) = ends_well(model.new_cache(3))? {
            ends_well(model.read(&[&[1, 2, 3], &[4]], &mut cache))?;
        }
    }
    if let Some(codec) = ends_well(TextCodec::load(folder))? {
        for text in ["say red", "", "\0 \u{fffd}\u{202e}ä", "<eos><user>"] {
            ends_well(codec.encode_prompt(&Prompt::Text(text.to_owned())))?;
            if let Some(tokens) = ends_well(codec.encode(text))? {
                ends_well(codec.decode(&tokens))?;
            }
        }
        ends_well(codec.decode(&[0, 5, u32::MAX]))?;
    }
    Ok(())
}

fn file_of_base(name: &str) -> Vec<u8> {
    std::fs::read(shared().path("base").join(name)).unwrap()
}

fn changed_json(name: &str, changes: &[Change]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&file_of_base(name)).unwrap();
    for change in changes {
        change.apply(&mut value);
    }
    value.to_string().into_bytes()
}

proptest! {
    #![proptest_config(few(96))]

    #[test]
    fn any_model_configuration_is_read_or_refused(changes in changes(), family in 0..6_usize) {
        let folder = model_with("config.json", &changed_json("config.json", &changes));
        use_model(folder.path())?;
        // The other families' have fields of their own.
        let families = ["gpt2", "llama-linear", "llama3", "openai-gpt", "qwen2", "qwen3"];
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families");
        let path = fixtures.join(families[family]).join("config.json");
        let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for change in &changes {
            change.apply(&mut value);
        }
        if let Some(config) = ends_well(TransformerConfig::parse(&value))? {
            estimates(&config, 8, None);
        }
    }

    #[test]
    fn any_weights_file_is_read_or_refused(changes in changes(), bytes in corrupted(120)) {
        let whole = file_of_base("model.safetensors");
        let folder = model_with("model.safetensors", &bytes.apply(&whole));
        use_model(folder.path())?;
        // A header that is JSON, but says something else.
        let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
        for change in &changes {
            change.apply(&mut header);
        }
        let header = header.to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(&whole[8 + length..]);
        let folder = model_with("model.safetensors", &file);
        use_model(folder.path())?;
    }

    #[test]
    fn any_gguf_file_is_read_or_refused(bytes in corrupted(1800)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.gguf");
        std::fs::write(&file, bytes.apply(&small_gguf::build(&small_gguf::fields()))).unwrap();
        let place = folder.path().join("model");
        if ends_well(trainer::gguf::convert(&file, &place, &[]))?.is_some() {
            use_model(&place)?;
        } else {
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn any_tokenizer_is_read_or_refused(
        changes in changes(),
        settings in changes(),
        bytes in corrupted(2000),
    ) {
        let folder = model_with("tokenizer.json", &changed_json("tokenizer.json", &changes));
        std::fs::write(
            folder.path().join("tokenizer_config.json"),
            changed_json("tokenizer_config.json", &settings),
        ).unwrap();
        use_model(folder.path())?;
        let folder = model_with("tokenizer.json", &bytes.apply(&file_of_base("tokenizer.json")));
        use_model(folder.path())?;
    }

    #[test]
    fn any_chat_template_makes_a_text_or_a_sentence(template in template()) {
        let folder = model_with("chat_template.jinja", template.as_bytes());
        use_model(folder.path())?;
    }
}

/// The memory that runs would need with a model of this shape, and rows as long as it can read.
fn estimates(config: &TransformerConfig, rows: usize, lora: Option<&LoraConfig>) -> Vec<Estimate> {
    let time = config.max_position_embeddings;
    let sft = SftConfig {
        batch_size: 100_000,
        reward_tokens: 100_000,
        lora: lora.cloned(),
        ..SftConfig::preset(Preset::Instructgpt)
    };
    let unpacked = SftConfig {
        pack_tokens: None,
        ..sft.clone()
    };
    let data = Demonstrations {
        longest: time,
        learnt: time,
        batch: time,
        judge: Some(config),
    };
    let ranking = Ranked {
        common: time / 2,
        rows: vec![time; 9],
        learnt: time,
    };
    let ranked = RankedRows {
        rankings: vec![ranking; 3],
        others: time,
    };
    let ppo = PpoConfig {
        batch_episodes: 100_000,
        minibatches: 1,
        max_new_tokens: time,
        lora: lora.cloned(),
        ..PpoConfig::preset(Preset::Instructgpt)
    };
    let players = Players {
        policy: config,
        reward: config,
        gold: Some(config),
        judge: lora,
        members: 64,
    };
    let reward = RewardConfig {
        members: 64,
        lora: lora.cloned(),
        ..RewardConfig::preset(Preset::Instructgpt)
    };
    let all = [false, true].map(|again| {
        [
            runs::sft(config, &sft, &data, rows, again),
            runs::sft(config, &unpacked, &data, rows, again),
            ranked::reward(config, &reward, &ranked, rows, rows, again),
            runs::ppo(&players, &ppo, time, true, rows, again),
        ]
    });
    all.into_iter().flatten().collect()
}

proptest! {
    #![proptest_config(few(256))]

    /// Numbers of any size: what is within bounds has an estimate, and nothing overflows.
    #[test]
    fn any_shape_is_estimated_or_refused(
        powers in prop::collection::vec(0..21_u32, 8),
        less in 0..3_usize,
        family in 0..4_usize,
        rows in prop::sample::select(vec![1_usize, 8, 100_000]),
        rank in prop::sample::select(vec![None, Some(1_usize), Some(4096)]),
    ) {
        let n = |index: usize| (1_usize << powers[index]).saturating_sub(less).max(1);
        let family = ["llama", "qwen2", "qwen3", "gpt2"][family];
        let value = json!({
            "model_type": family, "hidden_size": n(0), "intermediate_size": n(1),
            "num_hidden_layers": n(2), "num_attention_heads": 1 << powers[3],
            "num_key_value_heads": 1 << powers[3].min(powers[4]), "vocab_size": n(5),
            "max_position_embeddings": n(6), "head_dim": 2 << powers[7].min(19),
            "n_embd": 1 << powers[0], "n_layer": n(2), "n_head": 1 << powers[3].min(powers[0]),
            "n_positions": n(6),
        });
        if let Some(config) = ends_well(TransformerConfig::parse(&value))? {
            let lora = rank.map(|rank| LoraConfig { rank, ..LoraConfig::default() });
            for estimate in estimates(&config, rows, lora.as_ref()) {
                prop_assert!(estimate.total() > 0 && estimate.gib().is_finite());
                prop_assert!(!estimate.to_string().contains(char::is_control));
            }
        }
    }
}

/// A run of each kind that was stopped after some steps, to be copied; and what it ends in.
fn stopped(kind: usize) -> &'static (tempfile::TempDir, Vec<u8>) {
    static STOPPED: [OnceLock<(tempfile::TempDir, Vec<u8>)>; 4] = [const { OnceLock::new() }; 4];
    STOPPED[kind].get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let straight = folder.path().join("straight");
        let ended = resume(kind, &straight, false, &mut Kept::default()).unwrap();
        let weights = place::weights(&ended.checkpoint);
        let out = folder.path().join("out");
        resume(kind, &out, false, &mut StopAtTwo(out.join("savepoints"))).unwrap_err();
        (folder, weights)
    })
}

/// Stops a run that has two savepoints.
struct StopAtTwo(PathBuf);

impl Progress for StopAtTwo {
    fn record(&mut self, _: Event) {}

    fn is_cancelled(&self) -> bool {
        std::fs::read_dir(&self.0).is_ok_and(|entries| entries.count() == 2)
    }
}

fn resume(
    kind: usize,
    out: &Path,
    resume: bool,
    progress: &mut dyn Progress,
) -> Result<sft::Outcome> {
    let place = shared();
    let saving = SavePolicy {
        every: Some(std::time::Duration::ZERO),
        resume,
        ..SavePolicy::default()
    };
    match kind {
        0 => {
            let mut job = place.sft("unused");
            (job.out, job.saving, job.config.epochs) = (out.to_owned(), saving, 6);
            sft::run(&job, progress)
        }
        1 => {
            let mut job = place.reward("unused");
            (job.out, job.saving, job.config.epochs) = (out.to_owned(), saving, 6);
            reward::run(&job, progress)
        }
        2 => {
            let mut job = place.dpo("unused");
            (job.out, job.saving, job.config.epochs) = (out.to_owned(), saving, 6);
            dpo::run(&job, progress)
        }
        _ => {
            let mut job = place.ppo(&place.path("judge/checkpoint"), "unused");
            (job.out, job.saving) = (out.to_owned(), saving);
            job.config = PpoConfig {
                iterations: 6,
                ema_decay: 0.5,
                ..quick_ppo()
            };
            ppo::run(&job, progress)
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_tree(&path, &copy),
            false => {
                std::fs::copy(path, copy).unwrap();
            }
        }
    }
}

/// Writes the hashes anew, as one would who means harm.
fn seal(savepoint: &Path) {
    let lines = ["state.json", "tensors.safetensors"].map(|name| {
        let hash = checkpoint::sha256(&savepoint.join(name)).unwrap();
        format!("{hash}  {name}\n")
    });
    std::fs::write(savepoint.join("SHA256SUMS"), lines.concat()).unwrap();
}

proptest! {
    #![proptest_config(few(24))]

    /// What is damaged is passed over, so the run ends as if it had not been.
    #[test]
    fn a_run_goes_on_from_damaged_savepoints_to_the_same_weights(
        kind in 0..4_usize,
        damages in prop::collection::vec((0..2_usize, 0..3_usize, corrupted(100_000)), 1..4),
    ) {
        let (folder, weights) = stopped(kind);
        let (_place, out) = fresh_out();
        copy_tree(&folder.path().join("out"), &out);
        let mut points: Vec<_> = std::fs::read_dir(out.join("savepoints")).unwrap()
            .map(|entry| entry.unwrap().path()).collect();
        points.sort();
        for (point, file, damage) in damages {
            let names = ["state.json", "tensors.safetensors", "SHA256SUMS"];
            let path = points[point].join(names[file]);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, damage.apply(&bytes)).unwrap();
        }
        let ended = ends_well(resume(kind, &out, true, &mut Kept::default()))?;
        let ended = ended.expect("it starts anew where nothing is left");
        prop_assert!(place::weights(&ended.checkpoint) == *weights);
    }

    /// Whoever writes savepoints may write anything into them: it is used or refused.
    #[test]
    fn a_forged_savepoint_is_used_or_refused(
        kind in 0..4_usize,
        changes in changes(),
        of_tensors in any::<bool>(),
    ) {
        let (folder, _) = stopped(kind);
        let (_place, out) = fresh_out();
        copy_tree(&folder.path().join("out"), &out);
        for entry in std::fs::read_dir(out.join("savepoints")).unwrap() {
            let point = entry.unwrap().path();
            let name = if of_tensors { "tensors.safetensors" } else { "state.json" };
            let bytes = std::fs::read(point.join(name)).unwrap();
            let start = if of_tensors { 8 } else { 0 };
            let end = match of_tensors {
                true => 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize,
                false => bytes.len(),
            };
            let mut value: Value = serde_json::from_slice(&bytes[start..end]).unwrap();
            for change in &changes {
                change.apply(&mut value);
            }
            let text = value.to_string();
            let mut forged = Vec::new();
            if of_tensors {
                forged.extend((text.len() as u64).to_le_bytes());
            }
            forged.extend(text.as_bytes());
            forged.extend(&bytes[end..]);
            std::fs::write(point.join(name), forged).unwrap();
            seal(&point);
        }
        ends_well(resume(kind, &out, true, &mut Kept::default()))?;
    }
}

/// Inputs that are all refused at the door would show nothing of what lies behind it.
#[test]
fn what_is_drawn_is_neither_all_good_nor_all_bad() {
    const N: usize = 200;
    let mut runner = TestRunner::deterministic();
    let mut share = |is_good: &mut dyn FnMut(&mut TestRunner) -> bool| {
        let n = (0..N).filter(|_| is_good(&mut runner)).count();
        assert!((N / 20..N - N / 20).contains(&n), "{n} of {N} are good");
    };
    let (settings_of, lines) = (changes(), hostile_lines(demonstrations(3)));
    share(&mut |runner| {
        let changes = settings_of.new_tree(runner).unwrap().current();
        let preset = PpoConfig::preset(Preset::Tiny);
        settings(&preset, &changes, PpoConfig::check)
            .unwrap()
            .is_some()
    });
    share(&mut |runner| {
        let bytes = lines.new_tree(runner).unwrap().current();
        read::<DemonstrationRecord>(&bytes).1.is_ok()
    });
    let templates = template();
    share(&mut |runner| {
        let template = templates.new_tree(runner).unwrap().current();
        let folder = model_with("chat_template.jinja", template.as_bytes());
        let codec = TextCodec::load(folder.path());
        codec.is_ok_and(|codec| codec.encode_prompt(&Prompt::Text("say".to_owned())).is_ok())
    });
    let model = changes();
    share(&mut |runner| {
        let changes = model.new_tree(runner).unwrap().current();
        let value = changed_json("config.json", &changes);
        TransformerConfig::parse(&serde_json::from_slice(&value).unwrap()).is_ok()
    });
}
