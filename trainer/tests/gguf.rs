//! From a folder to a GGUF file and back: the same network, weights and tokenizer. Against the Python
//! packages `gguf` and `transformers` with the Python that `PLACKETT_TEST_PYTHON` names.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::quantized::gguf_file::{self, Content, Value as GgufValue};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
use trainer::checkpoint::{self, CheckpointKind, Lineage};
use trainer::gguf::{Numbers, convert, export};
use trainer::model::architecture::{Architecture, OUTPUT, SCORE};
use trainer::model::scratch::{self, NewModel, Shape, tensor_shapes};
use trainer::model::transformer_config::TransformerConfig;
use trainer::model::weights::Weights;
use trainer::records::Prompt;
use trainer::rng::{standard_normal, stream};
use trainer::text::TextCodec;

/// Every branch of both ways: learned and rotary positions, stretched or not, biases, norms within
/// heads, heads of another width, tied and untied outputs.
fn cases() -> Vec<(&'static str, Architecture, Value)> {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0,
        "original_max_position_embeddings": 24,
    });
    let rich = json!({
        "rope_scaling": llama3, "rope_theta": 100.0, "attention_bias": true, "mlp_bias": true,
        "tie_word_embeddings": false,
    });
    let linear = json!({"rope_scaling": {"rope_type": "linear", "factor": 2.5}});
    vec![
        ("gpt2", Architecture::Gpt2, json!({"n_inner": 96})),
        (
            "gpt2-untied",
            Architecture::Gpt2,
            json!({"tie_word_embeddings": false}),
        ),
        // Rows of 256 numbers take every kind of quantisation.
        ("gpt2-wide", Architecture::Gpt2, json!({"n_embd": 256})),
        ("llama", Architecture::Llama, json!({})),
        ("llama3", Architecture::Llama, rich),
        ("llama-linear", Architecture::Llama, linear),
        ("qwen2", Architecture::Qwen2, json!({"rope_theta": 1e6})),
        ("qwen3", Architecture::Qwen3, json!({"head_dim": 24})),
    ]
}

/// A folder with a tokenizer of its own and drawn numbers in every tensor, none 0 or 1.
fn write_model(place: &Path, architecture: Architecture, changes: &Value) {
    let base = place.with_extension("base");
    let wanted = NewModel {
        shape: Shape {
            architecture,
            layers: 2,
            hidden: 64,
            heads: 4,
            key_value_heads: (!architecture.is_gpt()).then_some(2),
            context: 96,
        },
        vocabulary: 400,
        seed: 1,
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let texts = scratch::read_texts(&[root.join("README.md")]).unwrap();
    scratch::write(&base, &wanted, &texts).unwrap();
    let mut config = read_json(&base.join("config.json"));
    for (key, value) in changes.as_object().unwrap() {
        config[key.as_str()] = value.clone();
    }
    std::fs::write(base.join("config.json"), config.to_string()).unwrap();
    let shape = TransformerConfig::parse(&config).unwrap();
    let mut shapes = tensor_shapes(&shape);
    if !shape.tie_word_embeddings {
        shapes.push((OUTPUT.to_owned(), vec![shape.vocab_size, shape.hidden_size]));
    }
    let draw = |(name, shape): (String, Vec<usize>)| {
        let mut rng = stream(2, &name, 0);
        let n = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|_| 0.2 * standard_normal(&mut rng)).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    let tensors: BTreeMap<String, Tensor> = shapes.into_iter().map(draw).collect();
    let lineage = Lineage::new(CheckpointKind::Base);
    checkpoint::write(place, &base, &tensors, None, &lineage).unwrap();
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn weights(folder: &Path) -> BTreeMap<String, Tensor> {
    let config = TransformerConfig::read(folder).unwrap();
    let weights = Weights::read(folder, &config, &Device::Cpu).unwrap();
    weights.tensors().clone()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(tensor: &Tensor) -> (Vec<usize>, Vec<u32>) {
    let bits = numbers(tensor).into_iter().map(f32::to_bits);
    (tensor.dims().to_vec(), bits.collect())
}

/// A folder, its GGUF file, and the folder made from that.
struct Trip {
    folder: PathBuf,
    file: PathBuf,
    back: PathBuf,
}

fn trip(place: &Path, name: &str, numbers: Numbers) -> Trip {
    let (_, architecture, changes) = cases().into_iter().find(|case| case.0 == name).unwrap();
    let trip = Trip {
        folder: place.join(name),
        file: place.join(format!("{name}.gguf")),
        back: place.join(format!("{name}-back")),
    };
    write_model(&trip.folder, architecture, &changes);
    export(&trip.folder, &trip.file, numbers).unwrap();
    convert(&trip.file, &trip.back, &[]).unwrap();
    trip
}

#[test]
fn a_folder_comes_back_from_gguf_to_the_bit() {
    for (name, ..) in cases() {
        let place = tempfile::tempdir().unwrap();
        let trip = trip(place.path(), name, Numbers::F32);
        let config = |folder: &Path| TransformerConfig::read(folder).unwrap();
        assert_eq!(config(&trip.folder), config(&trip.back), "{name}");
        let (before, after) = (weights(&trip.folder), weights(&trip.back));
        assert!(before.keys().eq(after.keys()), "{name}: {:?}", after.keys());
        for (key, tensor) in &before {
            assert_eq!(bits(tensor), bits(&after[key]), "{name}: {key}");
        }
        let codecs = [&trip.folder, &trip.back].map(|folder| TextCodec::load(folder).unwrap());
        let [one, two] = &codecs;
        assert_eq!((one.eos_id, one.pad_id), (two.eos_id, two.pad_id));
        assert_eq!(one.template_hash(), two.template_hash());
        let text = "don't  rank 1234 naïve 東京\n\n <|end|> x";
        assert_eq!(one.encode(text).unwrap(), two.encode(text).unwrap());
        let prompt = Prompt::Text("why?\n".to_owned());
        let prompts = codecs
            .each_ref()
            .map(|codec| codec.encode_prompt(&prompt).unwrap());
        assert_eq!(prompts[0], prompts[1]);
        let ids = |folder: &Path| {
            let config = read_json(&folder.join("config.json"));
            ["bos_token_id", "eos_token_id", "pad_token_id"].map(|id| config[id].clone())
        };
        assert_eq!(ids(&trip.folder), ids(&trip.back));
        // The file itself is the same again.
        let again = place.path().join("again.gguf");
        export(&trip.folder, &again, Numbers::F32).unwrap();
        assert!(std::fs::read(&trip.file).unwrap() == std::fs::read(&again).unwrap());
    }
}

/// Half of a step of the grid, and what its scale loses as an f16.
fn largest_error(numbers: Numbers, row: &[f32], index: usize) -> f32 {
    let half_precision = 2f32.powi(-11);
    match numbers {
        Numbers::F32 => 0.0,
        Numbers::F16 => row[index].abs() * half_precision + 1e-7,
        Numbers::Q8_0 => {
            let block = &row[index / 32 * 32..index / 32 * 32 + 32];
            let largest = block.iter().fold(0f32, |most, value| most.max(value.abs()));
            largest / 127.0 * 0.5 + 2.0 * largest * half_precision
        }
    }
}

#[test]
fn smaller_numbers_are_off_by_half_a_step_at_most_and_vectors_not_at_all() {
    for kind in [Numbers::F16, Numbers::Q8_0] {
        let place = tempfile::tempdir().unwrap();
        let trip = trip(place.path(), "qwen2", kind);
        let after = weights(&trip.back);
        let mut n_changed = 0;
        for (name, tensor) in weights(&trip.folder) {
            let (before, after) = (numbers(&tensor), numbers(&after[&name]));
            let width = tensor.dims().last().copied().unwrap();
            for (row, other) in before.chunks(width).zip(after.chunks(width)) {
                for index in 0..width {
                    let error = (row[index] - other[index]).abs();
                    let allowed = match tensor.rank() {
                        1 => 0.0,
                        _ => largest_error(kind, row, index),
                    };
                    assert!(error <= allowed, "{kind:?} {name}: {error}, not {allowed}");
                    n_changed += usize::from(error > 0.0);
                }
            }
        }
        assert!(n_changed > 1000, "{kind:?}: {n_changed}");
    }
}

fn refusal(result: trainer::Result<()>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn what_gguf_has_no_word_for_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let out = path("out.gguf");
    write_model(&path("first"), Architecture::OpenaiGpt, &json!({}));
    let error = refusal(export(&path("first"), &out, Numbers::F32));
    assert!(error.contains("openai-gpt"), "{error}");
    write_model(
        &path("relu"),
        Architecture::Gpt2,
        &json!({"activation_function": "relu"}),
    );
    let error = refusal(export(&path("relu"), &out, Numbers::F32));
    assert!(error.contains("activation"), "{error}");
    // A reward model.
    write_model(&path("qwen2"), Architecture::Qwen2, &json!({}));
    let mut tensors = weights(&path("qwen2"));
    tensors.insert(
        SCORE.to_owned(),
        Tensor::ones((1, 64), candle_core::DType::F32, &Device::Cpu).unwrap(),
    );
    let lineage = Lineage::new(CheckpointKind::Reward);
    checkpoint::write(
        &path("judge"),
        &path("qwen2"),
        &tensors,
        Some(0.0),
        &lineage,
    )
    .unwrap();
    let error = refusal(export(&path("judge"), &out, Numbers::F32));
    assert!(error.contains("reward model"), "{error}");
    // A tokenizer that cuts text in a way of its own.
    let file = path("qwen2").join("tokenizer.json");
    let mut tokenizer = read_json(&file);
    tokenizer["pre_tokenizer"] = json!({"type": "Whitespace"});
    std::fs::write(&file, tokenizer.to_string()).unwrap();
    let error = refusal(export(&path("qwen2"), &out, Numbers::F32));
    assert!(error.contains("cuts text"), "{error}");
    assert!(!out.exists());
    // A place that is taken stays what it was.
    std::fs::write(&out, "mine").unwrap();
    write_model(&path("good"), Architecture::Qwen2, &json!({}));
    export(&path("good"), &out, Numbers::F32).unwrap_err();
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
}

/// Writes `file` anew with other fields and kinds of numbers.
fn rewrite(
    file: &Path,
    out: &Path,
    changes: &[(&str, Option<GgufValue>)],
    kind: impl Fn(&str, &Tensor) -> GgmlDType,
) {
    let mut reader = File::open(file).unwrap();
    let content = Content::read(&mut reader).unwrap();
    let mut tensors = BTreeMap::new();
    for name in content.tensor_infos.keys() {
        let tensor = content.tensor(&mut reader, name, &Device::Cpu).unwrap();
        let tensor = tensor.dequantize(&Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, kind(name, &tensor)).unwrap();
        tensors.insert(name.as_str(), tensor);
    }
    let mut fields: BTreeMap<&str, GgufValue> = content
        .metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    for (key, value) in changes {
        match value {
            Some(value) => fields.insert(key, value.clone()),
            None => fields.remove(key),
        };
    }
    let fields: Vec<(&str, &GgufValue)> = fields.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (*name, tensor))
        .collect();
    gguf_file::write(&mut File::create(out).unwrap(), &fields, &tensors).unwrap();
}

fn text(text: &str) -> GgufValue {
    GgufValue::String(text.to_owned())
}

#[test]
fn a_file_that_would_be_read_as_another_model_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let trip = trip(place.path(), "qwen2", Numbers::F32);
    let other = place.path().join("other.gguf");
    for (key, value, words) in [
        (
            "general.architecture",
            Some(text("mamba")),
            "architecture \"mamba\"",
        ),
        (
            "tokenizer.ggml.model",
            Some(text("llama")),
            "kind \"llama\"",
        ),
        ("tokenizer.ggml.pre", Some(text("default")), "\"default\""),
        ("tokenizer.ggml.pre", None, "kind \"gpt2\"/\"\""),
        (
            "tokenizer.ggml.eos_token_id",
            None,
            "no field tokenizer.ggml.eos_token_id",
        ),
        ("qwen2.rope.scaling.type", Some(text("yarn")), "\"yarn\""),
        (
            "qwen2.rope.dimension_count",
            Some(GgufValue::U32(8)),
            "8 are rotated",
        ),
        (
            "qwen2.attention.sliding_window",
            Some(GgufValue::U32(8)),
            "window of 8",
        ),
        (
            "qwen2.block_count",
            Some(GgufValue::U32(1)),
            "unknown tensor blk.1",
        ),
    ] {
        rewrite(&trip.file, &other, &[(key, value)], |_, _| GgmlDType::F32);
        let error = refusal(convert(&other, &place.path().join("never"), &[]));
        assert!(error.contains(words), "{key}: {error}");
    }
}

/// Other writers' files: the embedding of GPT-2 a second time as the output, and no chat template.
#[test]
fn a_file_of_another_writer_is_read() {
    let place = tempfile::tempdir().unwrap();
    let untied = trip(place.path(), "gpt2-untied", Numbers::F32);
    let mut tensors = weights(&untied.folder);
    tensors.insert(
        OUTPUT.to_owned(),
        tensors["model.embed_tokens.weight"].clone(),
    );
    let twice = place.path().join("twice");
    let lineage = Lineage::new(CheckpointKind::Base);
    checkpoint::write(&twice, &untied.folder, &tensors, None, &lineage).unwrap();
    let (file, bare) = (
        place.path().join("twice.gguf"),
        place.path().join("bare.gguf"),
    );
    export(&twice, &file, Numbers::F32).unwrap();
    let changes = [
        ("tokenizer.chat_template", None),
        ("tokenizer.ggml.padding_token_id", None),
    ];
    rewrite(&file, &bare, &changes, |_, _| GgmlDType::F32);
    let back = place.path().join("back");
    convert(&bare, &back, &[]).unwrap();
    assert!(TransformerConfig::read(&back).unwrap().tie_word_embeddings);
    assert!(!weights(&back).contains_key(OUTPUT));
    // Without a padding token EOS pads, and without a template nobody can put a prompt.
    assert_eq!(read_json(&back.join("config.json"))["pad_token_id"], 1);
    let Err(error) = TextCodec::load(&back) else {
        panic!("a template out of nothing");
    };
    assert!(error.to_string().contains("chat template"), "{error}");
}

/// Every way of cutting text that is read from GGUF cuts as its published tokenizer does.
#[test]
fn each_kind_of_tokenizer_cuts_text_in_its_own_way() {
    let place = tempfile::tempdir().unwrap();
    let trip = trip(place.path(), "llama", Numbers::F32);
    let file = place.path().join("other.gguf");
    for (kind, digits, contraction) in [
        ("gpt-2", 1, 3),
        ("smollm", 5, 3),
        ("qwen2", 5, 2),
        ("llama-bpe", 2, 2),
    ] {
        let changes = [("tokenizer.ggml.pre", Some(text(kind)))];
        rewrite(&trip.file, &file, &changes, |_, _| GgmlDType::F32);
        let back = place.path().join(kind);
        convert(&file, &back, &[]).unwrap();
        let tokenizer = read_json(&back.join("tokenizer.json")).to_string();
        let tokenizer: tokenizers::Tokenizer = tokenizer.parse().unwrap();
        let n_words = |text: &str| {
            let mut words = PreTokenizedString::from(text);
            let cutter = tokenizer.get_pre_tokenizer().unwrap();
            cutter.pre_tokenize(&mut words).unwrap();
            words
                .get_splits(OffsetReferential::Original, OffsetType::Byte)
                .len()
        };
        assert_eq!(n_words("12345"), digits, "{kind}");
        // GPT-2 knows contractions in small letters only, and parts a mark from a word after it.
        assert_eq!(n_words("DON'T"), contraction, "{kind}");
        assert_eq!(
            read_json(&back.join("tokenizer.json"))["normalizer"].is_null(),
            kind != "qwen2"
        );
    }
}

/// What the Python packages `gguf` and `transformers` read in our files: the same weights, kind by
/// kind, and the same logits.
#[test]
fn python_reads_the_same_from_our_files() {
    let Some(python) = std::env::var_os("PLACKETT_TEST_PYTHON") else {
        eprintln!(
            "skipped: PLACKETT_TEST_PYTHON names no Python with torch, transformers and gguf"
        );
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let mut trips = Vec::new();
    for (name, ..) in cases() {
        let Trip { folder, file, back } = trip(place.path(), name, Numbers::F32);
        trips.push(json!({"name": name, "file": file, "folder": folder, "exact": true}));
        trips.push(json!({"name": name, "file": file, "folder": back, "exact": true}));
    }
    let name = "gpt2-wide";
    let origin = place.path().join("gpt2-wide.gguf");
    for kind in [
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q8_0,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ] {
        let file = place.path().join(format!("{kind:?}.gguf"));
        let back = place.path().join(format!("{kind:?}"));
        let of = |name: &str, tensor: &Tensor| match tensor.rank() == 2
            && name != "position_embd.weight"
        {
            true => kind,
            false => GgmlDType::F32,
        };
        rewrite(&origin, &file, &[], of);
        convert(&file, &back, &[]).unwrap();
        trips.push(json!({"name": name, "file": file, "folder": back, "exact": false}));
    }
    let list = place.path().join("trips.json");
    std::fs::write(&list, Value::from(trips).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check_gguf.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&list)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    eprint!("{said}");
}
