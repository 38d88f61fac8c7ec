//! Estimates of memory against an allocator that counts: what a network holds, what a pass keeps,
//! and the peak of whole runs.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod counting;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use candle_core::{Device, Tensor};
use counting::{alone, peak_of, taken_by};
use serde_json::{Value, json};
use tempfile::TempDir;
use tiny::{Kept, WORDS, write_lines, write_model};
use trainer::config::{
    DpoConfig, LoraConfig, LoraTarget, PpoConfig, Preset, RewardConfig, SftConfig,
};
use trainer::dpo::{self, DpoJob};
use trainer::memory::Plan;
use trainer::memory::network::{Network, Rows};
use trainer::model::attention::Pass;
use trainer::model::batch::TokenBatch;
use trainer::model::heads::{Beginning, RewardModel};
use trainer::model::lora::Fresh;
use trainer::model::transformer::{Transformer, TransformerConfig};
use trainer::model::weights::Trainable;
use trainer::ppo::{self, PpoJob};
use trainer::reward::{self, RewardJob};
use trainer::rng::{standard_normal, stream};
use trainer::savepoint::SavePolicy;
use trainer::sft::{self, Outcome, SftJob};

fn families() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families");
    let found = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    found.filter(|path| path.is_dir()).collect()
}

const PARTS: [Trainable; 3] = [
    Trainable::Everything,
    Trainable::UpperLayers(1),
    Trainable::UpperLayers(2),
];

/// None, on all projections, and on some.
fn adapters() -> [Option<LoraConfig>; 3] {
    let all = LoraConfig {
        rank: 3,
        ..LoraConfig::default()
    };
    let some = LoraConfig {
        rank: 3,
        targets: vec![LoraTarget::Down, LoraTarget::Gate, LoraTarget::Key],
        ..LoraConfig::default()
    };
    [None, Some(all), Some(some)]
}

fn language_model(folder: &Path, trainable: Trainable, lora: Option<&LoraConfig>) -> Transformer {
    let fresh = lora.map(|config| Fresh {
        config,
        seed: 1,
        purpose: "a test",
    });
    Transformer::load_adapted(folder, &Device::Cpu, trainable, fresh).unwrap()
}

fn scorer(
    folder: &Path,
    trainable: Trainable,
    lora: Option<&LoraConfig>,
    members: usize,
) -> RewardModel {
    let beginning = Beginning {
        trainable,
        lora,
        members,
        seed: 1,
    };
    RewardModel::begin(folder, &Device::Cpu, beginning).unwrap()
}

#[test]
fn every_familys_numbers_are_counted() {
    let _turn = alone();
    for folder in families() {
        let config = TransformerConfig::read(&folder).unwrap();
        let parts = PARTS
            .into_iter()
            .flat_map(|part| adapters().map(|lora| (part, lora)));
        for (trainable, lora) in parts {
            let lora = lora.as_ref();
            let model = language_model(&folder, trainable, lora);
            let [one, three] = [1, 3].map(|members| scorer(&folder, trainable, lora, members));
            for (weights, heads) in [
                (model.weights(), 0),
                (one.trunk.weights(), 1),
                (three.trunk.weights(), 3),
            ] {
                let network = Network {
                    config: &config,
                    trainable,
                    heads,
                    lora,
                };
                let all: usize = weights.tensors().values().map(Tensor::elem_count).sum();
                let learn: usize = weights
                    .variables()
                    .values()
                    .map(|one| one.elem_count())
                    .sum();
                let name = format!("{} {trainable:?} {heads} {lora:?}", folder.display());
                assert_eq!(network.weights(), all, "{name}");
                assert_eq!(network.trained(), learn, "{name}");
            }
        }
    }
}

/// What candle itself takes for each tensor is no part of the estimate, so the rows are many.
#[test]
fn what_a_pass_keeps_is_counted() {
    let _turn = alone();
    for folder in families() {
        let config = TransformerConfig::read(&folder).unwrap();
        let time = config.max_position_embeddings.min(48);
        let rows = Rows::new(24, time);
        let tokens = vec![vec![5; time]; rows.n];
        let [none, all, _] = adapters();
        let parts = PARTS
            .into_iter()
            .flat_map(|part| [(part, none.as_ref()), (part, all.as_ref())]);
        for (trainable, lora) in parts {
            for recomputes in [false, true] {
                let mut model = language_model(&folder, trainable, lora);
                model.set_recompute(recomputes);
                let mut judge = scorer(&folder, trainable, lora, 1);
                judge.trunk.set_recompute(recomputes);
                let batch = TokenBatch::new(&tokens, 0, &Device::Cpu).unwrap();
                for reads_last in [false, true] {
                    let (_kept, bytes) = taken_by(|| match reads_last {
                        false => model.hidden(&batch, Pass::Tracked).unwrap(),
                        true => {
                            let lower = judge.trunk.lower(&batch).unwrap();
                            judge.scores_from(&lower, &batch, Pass::Tracked).unwrap()
                        }
                    });
                    let network = Network {
                        config: &config,
                        trainable,
                        heads: usize::from(reads_last),
                        lora,
                    };
                    let expected = 4 * network.pass(rows, reads_last, recomputes);
                    // candle's own part, masks and tables of rotations.
                    let allowed = bytes * 3 / 100 + (32 << 10);
                    assert!(
                        expected.abs_diff(bytes) < allowed,
                        "{} {trainable:?}, last {reads_last}, again {recomputes}, {lora:?}: \
                         {expected} for {bytes}",
                        folder.display()
                    );
                }
            }
        }
    }
}

/// A Llama with drawn weights, in a folder with the tiny model's tokenizer.
fn write_llama(folder: &Path, shape: &Value) {
    write_model(folder);
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    for (key, value) in shape.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let shape = TransformerConfig::read(folder).unwrap();
    let (hidden, inner) = (shape.hidden_size, shape.intermediate_size);
    let keys = shape.num_key_value_heads * shape.head_dim;
    let mut tensors = BTreeMap::new();
    let mut rng = stream(1, "a llama", 0);
    let mut draw = |name: String, dims: &[usize]| {
        let n = dims.iter().product();
        let values: Vec<f32> = match dims.len() {
            1 => vec![1.0; n],
            _ => (0..n).map(|_| standard_normal(&mut rng) * 0.05).collect(),
        };
        tensors.insert(name, Tensor::from_vec(values, dims, &Device::Cpu).unwrap());
    };
    draw(
        "model.embed_tokens.weight".to_owned(),
        &[shape.vocab_size, hidden],
    );
    draw("model.norm.weight".to_owned(), &[hidden]);
    for layer in 0..shape.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        for (part, dims) in [
            ("input_layernorm", &[hidden] as &[usize]),
            ("post_attention_layernorm", &[hidden]),
            ("self_attn.q_proj", &[hidden, hidden]),
            ("self_attn.k_proj", &[keys, hidden]),
            ("self_attn.v_proj", &[keys, hidden]),
            ("self_attn.o_proj", &[hidden, hidden]),
            ("mlp.gate_proj", &[inner, hidden]),
            ("mlp.up_proj", &[inner, hidden]),
            ("mlp.down_proj", &[hidden, inner]),
        ] {
            draw(name(part), dims);
        }
    }
    safetensors::serialize_to_file(&tensors, None, &folder.join("model.safetensors")).unwrap();
}

fn text(seed: u64, n: usize) -> String {
    let words = (0..n).map(|i| WORDS[(seed as usize * 7 + i * i * 5 + i) % WORDS.len()]);
    words.collect::<Vec<_>>().join(" ")
}

/// A model and data whose rows are about `length` tokens long.
struct Place {
    folder: TempDir,
    length: usize,
}

impl Place {
    fn new(shape: &Value, length: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_llama(&folder.path().join("base"), shape);
        let half = length / 2 - 2;
        let turns = |i: u64| {
            json!({"id": i.to_string(), "messages": [
                {"role": "user", "content": text(i, half)},
                {"role": "assistant", "content": text(i + 99, half)},
            ]})
        };
        let ranking = |i: u64| {
            let completions: Vec<Value> = (0..4)
                .map(|k| {
                    let text = text(i * 5 + k, half - k as usize);
                    json!({"id": k.to_string(), "text": text, "rank": k + 1})
                })
                .collect();
            json!({"id": i.to_string(), "prompt": text(i, half), "completions": completions,
                   "labeler": (i % 2).to_string()})
        };
        let prompt = |i: u64| json!({"id": i.to_string(), "prompt": text(i * 3, half)});
        let place = Self { folder, length };
        write_lines(&place.path("demonstrations.jsonl"), (0..10).map(turns));
        write_lines(&place.path("rankings.jsonl"), (0..10).map(ranking));
        write_lines(&place.path("prompts.jsonl"), (0..16).map(prompt));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sft(&self, name: &str) -> SftJob {
        SftJob {
            config: SftConfig {
                epochs: 1,
                max_tokens: 4096,
                pack_tokens: None,
                ..SftConfig::preset(Preset::Tiny)
            },
            data: self.path("demonstrations.jsonl"),
            texts: None,
            base: self.path("base"),
            reward: None,
            out: self.path(name),
            // After every step, since it is a phase that may be the highest.
            saving: SavePolicy {
                every: Some(Duration::ZERO),
                ..SavePolicy::default()
            },
        }
    }

    fn reward(&self, name: &str) -> RewardJob {
        RewardJob {
            config: RewardConfig {
                epochs: 1,
                max_tokens: 4096,
                ..RewardConfig::preset(Preset::Tiny)
            },
            data: self.path("rankings.jsonl"),
            demonstrations: None,
            base: self.path("base"),
            out: self.path(name),
            saving: SavePolicy::default(),
        }
    }

    fn dpo(&self, name: &str) -> DpoJob {
        DpoJob {
            config: DpoConfig {
                epochs: 1,
                max_tokens: 4096,
                ..DpoConfig::preset(Preset::Tiny)
            },
            data: self.path("rankings.jsonl"),
            base: self.path("base"),
            out: self.path(name),
            saving: SavePolicy::default(),
        }
    }

    fn ppo(&self, judge: &Path, name: &str) -> PpoJob {
        PpoJob {
            config: PpoConfig {
                iterations: 2,
                batch_episodes: 8,
                minibatches: 1,
                max_new_tokens: self.length / 2,
                max_prompt_tokens: 4096,
                ..PpoConfig::preset(Preset::Tiny)
            },
            prompts: self.path("prompts.jsonl"),
            texts: None,
            base: self.path("base"),
            reward: judge.to_owned(),
            gold: None,
            out: self.path(name),
            saving: SavePolicy::default(),
        }
    }

    fn judge(&self, lora: Option<LoraConfig>) -> PathBuf {
        let mut job = self.reward("judge");
        job.config.lora = lora;
        job.config.train_layers = Some(1);
        job.config.micro_prompts = Some(1);
        reward::run(&job, &mut Kept::default()).unwrap().checkpoint
    }
}

/// The estimate without the program itself, beside what was counted.
fn assert_near(what: &str, plan: &Plan, peak: usize) {
    let parts = plan.estimate.parts.iter();
    let models = parts.filter(|part| part.name != "program and tokenizer");
    let expected: u64 = models.map(|part| part.bytes).sum();
    let ratio = expected as f64 / peak as f64;
    println!(
        "{what}: {expected} for {peak}, {ratio:.3} of it; {}",
        plan.estimate
    );
    assert!(
        (0.8..1.25).contains(&ratio),
        "{what}: {expected} for {peak}; {plan}"
    );
}

fn shape(vocabulary: usize) -> Value {
    json!({
        "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6,
        "num_attention_heads": 6, "num_key_value_heads": 3, "vocab_size": vocabulary,
        "max_position_embeddings": 1024,
    })
}

#[test]
fn a_fine_tuning_runs_peak_is_near_its_estimate() {
    let _turn = alone();
    for (vocabulary, length) in [(800, 240), (12_000, 60)] {
        let place = Place::new(&shape(vocabulary), length);
        let mut peaks = Vec::new();
        for (rows, recomputes, layers) in [
            (4, false, None),
            (4, true, None),
            (1, false, None),
            (4, false, Some(2)),
            (1, true, Some(4)),
        ] {
            let name = format!("{rows}-{recomputes}-{layers:?}");
            let mut job = place.sft(&name);
            job.config.micro_rows = Some(rows);
            job.config.recompute_activations = recomputes;
            job.config.train_layers = layers;
            let plan = sft::estimate(&job).unwrap();
            let (_, peak) = peak_of(|| sft::run(&job, &mut Kept::default()).unwrap());
            assert_near(&format!("sft {vocabulary} {length} {name}"), &plan, peak);
            peaks.push(peak);
        }
        for (tokens, dropout, recomputes) in
            [(480, 0.0, false), (480, 0.2, true), (160, 0.2, false)]
        {
            let name = format!("packed-{tokens}-{dropout}-{recomputes}");
            let mut job = place.sft(&name);
            job.config.pack_tokens = Some(tokens);
            job.config.dropout = dropout;
            job.config.recompute_activations = recomputes;
            let plan = sft::estimate(&job).unwrap();
            assert!(plan.is_packed && plan.rows == tokens, "{plan}");
            let (_, peak) = peak_of(|| sft::run(&job, &mut Kept::default()).unwrap());
            assert_near(&format!("sft {vocabulary} {length} {name}"), &plan, peak);
        }
        if length == 240 {
            assert!(
                peaks[1] * 3 < peaks[0] * 2,
                "recomputation saves little: {peaks:?}"
            );
        }
    }
}

#[test]
fn a_reward_models_peak_is_near_its_estimate() {
    let _turn = alone();
    let place = Place::new(&shape(800), 200);
    for (prompts, recomputes, layers, folds, of_labelers) in [
        (4, false, None, 0, 0),
        (4, true, None, 0, 0),
        (1, false, None, 2, 0),
        (2, false, Some(3), 0, 0),
        (1, true, None, 0, 2),
    ] {
        let name = format!("{prompts}-{recomputes}-{layers:?}-{folds}-{of_labelers}");
        let mut job = place.reward(&name);
        job.config.micro_prompts = Some(prompts);
        job.config.recompute_activations = recomputes;
        job.config.train_layers = layers;
        job.config.cross_validation_folds = folds;
        job.config.labeler_folds = of_labelers;
        let plan = reward::estimate(&job).unwrap();
        let (_, peak) = peak_of(|| reward::run(&job, &mut Kept::default()).unwrap());
        assert_near(&format!("reward {name}"), &plan, peak);
        let is_measuring = plan.estimate.phase == "measuring held-out labelers";
        assert_eq!(is_measuring, of_labelers > 0, "{plan}");
    }
}

/// A judge that is larger than the model, and answers that are longer than demonstrations.
#[test]
fn the_judges_part_of_a_fine_tuning_runs_peak_is_near_its_estimate() {
    /// So many that few answers end before their limit, which the estimate takes them to reach.
    const VOCABULARY: usize = 8000;
    let _turn = alone();
    for (heads, inner, answer) in [(6, 2048, 300), (48, 512, 600)] {
        let shape = |hidden: usize, layers: usize, inner: usize, heads: usize| {
            json!({
                "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
                "num_attention_heads": heads, "num_key_value_heads": heads / 2,
                "vocab_size": VOCABULARY, "max_position_embeddings": 1024,
            })
        };
        let place = Place::new(&shape(192, 2, inner, heads), 60);
        let judge = place.judge(None);
        std::fs::remove_dir_all(place.path("base")).unwrap();
        write_llama(&place.path("base"), &shape(48, 1, 128, 2));
        let mut job = place.sft("judged");
        job.reward = Some(judge);
        job.config.micro_rows = Some(1);
        job.config.held_out_share = 0.8;
        job.config.reward_prompts = 8;
        job.config.reward_tokens = answer;
        let plan = sft::estimate(&job).unwrap();
        assert_eq!(plan.estimate.phase, "judging answers", "{plan}");
        let (_, peak) = peak_of(|| sft::run(&job, &mut Kept::default()).unwrap());
        assert_near(&format!("sft judged {heads} {answer}"), &plan, peak);
    }
}

#[test]
fn a_dpo_runs_peak_is_near_its_estimate() {
    let _turn = alone();
    for (vocabulary, length) in [(800, 200), (12_000, 60)] {
        let place = Place::new(&shape(vocabulary), length);
        for (rows, recomputes, layers) in [
            (8, false, None),
            (8, true, None),
            // One ranking in several passes.
            (1, false, None),
            (1, true, None),
            (4, false, Some(3)),
        ] {
            let name = format!("{rows}-{recomputes}-{layers:?}");
            let mut job = place.dpo(&name);
            job.config.micro_rows = Some(rows);
            job.config.recompute_activations = recomputes;
            job.config.train_layers = layers;
            let plan = dpo::estimate(&job).unwrap();
            let (_, peak) = peak_of(|| dpo::run(&job, &mut Kept::default()).unwrap());
            assert_near(&format!("dpo {vocabulary} {length} {name}"), &plan, peak);
        }
    }
}

#[test]
fn a_ppo_runs_peak_is_near_its_estimate() {
    let _turn = alone();
    let place = Place::new(&shape(800), 160);
    let judge = place.judge(None);
    for (rows, recomputes, layers) in [(8, false, None), (8, true, None), (2, false, Some(3))] {
        let name = format!("{rows}-{recomputes}-{layers:?}");
        let mut job = place.ppo(&judge, &name);
        job.config.micro_rows = Some(rows);
        job.config.recompute_activations = recomputes;
        job.config.train_layers = layers;
        let plan = ppo::estimate(&job).unwrap();
        let (_, peak) = peak_of(|| ppo::run(&job, &mut Kept::default()).unwrap());
        assert_near(&format!("ppo {name}"), &plan, peak);
    }
}

fn rank(rank: usize) -> Option<LoraConfig> {
    Some(LoraConfig {
        rank,
        ..LoraConfig::default()
    })
}

/// Most of a run by adapters is weights and activations. A large vocabulary and short rows show the
/// first, long rows the second.
#[test]
fn peaks_of_runs_by_adapters_are_near_their_estimates() {
    let _turn = alone();
    for (vocabulary, length) in [(800, 200), (12_000, 40)] {
        let place = Place::new(&shape(vocabulary), length);
        for (rows, recomputes, layers) in [(4, false, None), (4, true, None), (1, false, Some(2))] {
            let name = format!("{rows}-{recomputes}-{layers:?}");
            let mut job = place.sft(&name);
            job.config.lora = rank(8);
            job.config.micro_rows = Some(rows);
            job.config.recompute_activations = recomputes;
            job.config.train_layers = layers;
            let plan = sft::estimate(&job).unwrap();
            let (_, peak) = peak_of(|| sft::run(&job, &mut Kept::default()).unwrap());
            assert_near(&format!("sft {vocabulary} {length} {name}"), &plan, peak);
        }
        let mut judge = place.reward("judge");
        judge.config.lora = rank(4);
        judge.config.members = 3;
        let plan = reward::estimate(&judge).unwrap();
        let (made, peak) = peak_of(|| reward::run(&judge, &mut Kept::default()).unwrap());
        assert_near(&format!("reward {vocabulary} {length}"), &plan, peak);

        // Over one base, and with a judge from elsewhere over two.
        let mut other = place.reward("other");
        other.config.train_layers = Some(1);
        other.config.micro_prompts = Some(1);
        let other = reward::run(&other, &mut Kept::default()).unwrap();
        let mut totals = Vec::new();
        for (name, judge) in [("one", &made.checkpoint), ("two", &other.checkpoint)] {
            for (rows, layers) in [(4, None), (2, Some(3))] {
                let name = format!("{name}-{rows}");
                let mut job = place.ppo(judge, &name);
                job.config.lora = rank(8);
                job.config.micro_rows = Some(rows);
                job.config.train_layers = layers;
                let plan = ppo::estimate(&job).unwrap();
                let (_, peak) = peak_of(|| ppo::run(&job, &mut Kept::default()).unwrap());
                assert_near(&format!("ppo {vocabulary} {length} {name}"), &plan, peak);
                let parts = plan.estimate.parts.iter();
                let mut weights = parts.filter(|part| part.name == "weights of four models");
                totals.push(weights.next().unwrap().bytes);
            }
        }
        assert!(totals[0] * 9 < totals[2] * 5, "{totals:?}");
    }
}

#[test]
fn a_run_is_fitted_to_its_limit_and_refused_where_nothing_fits() {
    let _turn = alone();
    let place = Place::new(&shape(800), 360);
    let mut job = place.sft("fitted");
    let free = sft::estimate(&job).unwrap();
    assert_eq!((free.rows, free.recomputes), (4, false));
    job.config.micro_rows = Some(1);
    job.config.recompute_activations = true;
    let least = sft::estimate(&job).unwrap().estimate.gib();
    job = place.sft("fitted");
    job.config.memory_limit_gib = Some(least * 1.01);
    let plan = sft::estimate(&job).unwrap();
    assert!(plan.recomputes && plan.estimate.gib() < free.estimate.gib());
    let mut progress = Kept::default();
    let (outcome, peak) = peak_of(|| sft::run(&job, &mut progress).unwrap());
    assert_near("fitted", &plan, peak);
    assert_eq!(outcome.summary["memory_estimate_gib"], plan.estimate.gib());
    let says = |words: &str| {
        progress.events.iter().any(|event| {
            matches!(event, trainer::progress::Event::Log { message } if message.contains(words))
        })
    };
    assert!(says("activations recomputed") && says("to stay within"));
    job = place.sft("refused");
    job.config.memory_limit_gib = Some(least * 0.99);
    let error = sft::run(&job, &mut progress).unwrap_err().to_string();
    assert!(
        error.contains("memory_limit_gib") && error.contains("help"),
        "{error}"
    );
    assert!(!job.out.exists(), "a refused run leaves nothing behind");
}

/// For docs/memory.md: one case, by `CASE=sft,4,false,all,256,none`, in a process of its own. The shape
/// is a Llama of 34 million numbers.
#[test]
#[ignore = "measures the resident memory of a larger model, one case a process"]
fn resident_memory_of_one_case() {
    let Ok(case) = std::env::var("CASE") else {
        return;
    };
    let words: Vec<&str> = case.split(',').collect();
    let [kind, micro, recomputes, layers, length, rank_of_adapters] = words.as_slice() else {
        panic!("CASE=kind,micro,recompute,layers,length,rank");
    };
    let lora = rank_of_adapters.parse().ok().and_then(rank);
    let (micro, recomputes) = (Some(micro.parse().unwrap()), *recomputes == "true");
    let (layers, length): (Option<usize>, usize) = (layers.parse().ok(), length.parse().unwrap());
    let shape = json!({
        "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 16_384,
        "max_position_embeddings": 2048,
    });
    let place = Place::new(&shape, length);
    let outcome: Outcome = match *kind {
        "sft" => {
            let mut job = place.sft("run");
            (job.config.micro_rows, job.config.recompute_activations) = (micro, recomputes);
            job.config.train_layers = layers;
            job.config.lora = lora;
            sft::run(&job, &mut Kept::default()).unwrap()
        }
        "reward" => {
            let mut job = place.reward("run");
            (job.config.micro_prompts, job.config.recompute_activations) = (micro, recomputes);
            job.config.train_layers = layers;
            job.config.lora = lora;
            reward::run(&job, &mut Kept::default()).unwrap()
        }
        "dpo" => {
            let mut job = place.dpo("run");
            (job.config.micro_rows, job.config.recompute_activations) = (micro, recomputes);
            job.config.train_layers = layers;
            dpo::run(&job, &mut Kept::default()).unwrap()
        }
        _ => {
            let judge = place.judge(lora.clone());
            let mut job = place.ppo(&judge, "run");
            (job.config.micro_rows, job.config.recompute_activations) = (micro, recomputes);
            job.config.train_layers = layers;
            job.config.lora = lora;
            ppo::run(&job, &mut Kept::default()).unwrap()
        }
    };
    let (estimate, peak) = (
        outcome.summary["memory_estimate_gib"],
        outcome.summary["memory_peak_gib"],
    );
    println!(
        "{case}: estimate {estimate:.3} GiB, peak {peak:.3} GiB, {:.2}",
        estimate / peak
    );
}
