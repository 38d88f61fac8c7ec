//! From texts alone: a tokenizer and a model that have seen nothing else, pretrained, and then the
//! same pipeline as on any other model.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::{Value, json};
use trainer::checkpoint::{self, CheckpointKind};
use trainer::config::{Learn, Preset, SftConfig};
use trainer::generate::{SampleRequest, generate};
use trainer::model::architecture::Architecture;
use trainer::model::scratch::{self, NewModel, Shape};
use trainer::model::transformer::Transformer;
use trainer::model::weights::Trainable;
use trainer::records::{Message, Prompt};
use trainer::sampling::SamplingConfig;
use trainer::savepoint::SavePolicy;
use trainer::sft::{self, SftJob};
use trainer::text::TextCodec;

use crate::tiny::{Kept, write_lines};

/// Texts that this repository owns.
fn texts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = ["README.md", "docs/checklist.md", "docs/first-run.md"];
    scratch::read_texts(&files.map(|name| root.join(name))).unwrap()
}

fn new_model(architecture: Architecture) -> NewModel {
    NewModel {
        shape: Shape {
            architecture,
            layers: 2,
            hidden: 48,
            heads: 4,
            key_value_heads: (!architecture.is_gpt()).then_some(2),
            context: 96,
        },
        vocabulary: 700,
        seed: 3,
    }
}

fn write(folder: &Path, architecture: Architecture) -> PathBuf {
    let place = folder.join(architecture.model_type());
    let n_tokens = scratch::write(&place, &new_model(architecture), &texts()).unwrap();
    assert_eq!(n_tokens, 700);
    place
}

#[test]
fn a_new_model_of_every_family_is_a_folder_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    for architecture in Architecture::ALL {
        let place = write(folder.path(), architecture);
        let info = checkpoint::inspect(&place).unwrap();
        assert_eq!(info.kind, CheckpointKind::Base);
        assert_eq!(info.architecture, architecture.language_model_class());
        let shape = new_model(architecture).shape;
        assert_eq!(info.n_parameters, shape.n_parameters(700).unwrap());
        let everything = Trainable::Everything;
        let model = Transformer::load(&place, &Device::Cpu, everything).unwrap();
        let codec = TextCodec::load(&place).unwrap();
        codec.check_fits(&place, model.config.vocab_size).unwrap();
        assert_eq!((codec.eos_id, codec.pad_id), (1, 2));
    }
}

#[test]
fn the_same_texts_and_seed_give_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let places = [&one, &two].map(|folder| write(folder.path(), Architecture::Gpt2));
    for entry in std::fs::read_dir(&places[0]).unwrap() {
        let name = entry.unwrap().file_name();
        let bytes = places
            .each_ref()
            .map(|place| std::fs::read(place.join(&name)).unwrap());
        assert!(bytes[0] == bytes[1], "{name:?}");
    }
    let mut other = new_model(Architecture::Gpt2);
    other.seed = 4;
    let place = one.path().join("other");
    scratch::write(&place, &other, &texts()).unwrap();
    let weights = |place: &Path| std::fs::read(place.join("model.safetensors")).unwrap();
    assert_ne!(weights(&places[0]), weights(&place));
}

/// GPT-2's initialisation: 0.02, over the root of twice the layers on the way back into the residual
/// stream; Llama's has no such difference.
#[test]
fn weights_are_drawn_as_the_family_draws_them() {
    let folder = tempfile::tempdir().unwrap();
    for (architecture, scale) in [(Architecture::Gpt2, 0.5), (Architecture::Llama, 1.0)] {
        let place = write(folder.path(), architecture);
        let model = Transformer::load(&place, &Device::Cpu, Trainable::Nothing).unwrap();
        for (name, tensor) in model.weights().tensors() {
            let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            let n = values.len() as f32;
            let mean = values.iter().sum::<f32>() / n;
            let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n).sqrt();
            if name.ends_with("bias") {
                assert!(values.iter().all(|x| *x == 0.0), "{name}");
            } else if name.contains("norm") {
                assert!(values.iter().all(|x| *x == 1.0), "{name}");
            } else {
                let returns = name.contains("o_proj") || name.contains("down_proj");
                // Two layers: one over the root of four.
                let wanted = 0.02 * if returns { scale } else { 1.0 };
                // Five standard errors of either.
                let error = (deviation / wanted - 1.0).abs() * (2.0 * n).sqrt();
                assert!(error < 5.0, "{name}: {deviation}");
                assert!(mean.abs() * n.sqrt() < 5.0 * wanted, "{name}: {mean}");
            }
        }
    }
}

fn say(role: &str, content: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}

/// Items 1, 6 and 8 of the checklist: BOS once, at the beginning; EOS once, after what the assistant
/// said; padding is another token.
#[test]
fn the_chat_template_begins_with_bos_and_ends_an_answer_with_eos() {
    let folder = tempfile::tempdir().unwrap();
    let place = write(folder.path(), Architecture::Llama);
    let codec = TextCodec::load(&place).unwrap();
    let turns = [
        say("system", "be kind"),
        say("user", "why?"),
        say("assistant", "so"),
        say("user", "and\n"),
    ];
    let tokens = codec
        .encode_prompt(&Prompt::Conversation(turns.to_vec()))
        .unwrap();
    let text = |text: &str| codec.encode(text).unwrap();
    let mut wanted = vec![0, 3];
    wanted.extend(text("be kind"));
    wanted.push(4);
    wanted.extend(text("why?"));
    wanted.push(5);
    wanted.extend(text("so"));
    wanted.extend([1, 4]);
    wanted.extend(text("and\n"));
    wanted.push(5);
    assert_eq!(tokens, wanted);
    let completion = codec.encode_completion("so").unwrap();
    assert_eq!(completion, [text("so"), vec![1]].concat());
}

/// The loss falls clearly, generation runs, and the same run gives the same bytes.
#[test]
fn a_new_model_learns_texts_and_then_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let paragraphs: Vec<String> = texts()
        .iter()
        .flat_map(|text| text.split("\n\n"))
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect();
    let lines = paragraphs.iter().map(|text| json!({"text": text}));
    let data = write_lines(&folder.path().join("texts.jsonl"), lines);
    for architecture in [Architecture::Gpt2, Architecture::Qwen3] {
        let base = write(folder.path(), architecture);
        let mut config = SftConfig::preset(Preset::Tiny);
        config.learn = Learn::Everything;
        config.max_tokens = 64;
        config.epochs = 4;
        config.batch_size = 8;
        let job = |out: &str| SftJob {
            config: config.clone(),
            data: data.clone(),
            texts: None,
            reward: None,
            base: base.clone(),
            out: folder
                .path()
                .join(format!("{out}-{}", architecture.model_type())),
            saving: SavePolicy::default(),
        };
        let outcome = sft::run(&job("run"), &mut Kept::default()).unwrap();
        let (before, after) = (
            outcome.summary["held_out_loss_before"],
            outcome.summary["held_out_loss"],
        );
        // At first every token is as likely as another.
        assert!((before - 700f64.ln()).abs() < 0.15, "{before}");
        assert!(after < before - 1.0, "{before} to {after}");
        let again = sft::run(&job("again"), &mut Kept::default()).unwrap();
        let weights = |place: &Path| std::fs::read(place.join("model.safetensors")).unwrap();
        assert!(weights(&outcome.checkpoint) == weights(&again.checkpoint));
        let lineage = std::fs::read(outcome.checkpoint.join("plackett.json")).unwrap();
        let lineage: Value = serde_json::from_slice(&lineage).unwrap();
        assert_eq!(lineage["kind"], "base");
        assert!(lineage["data"]["texts"].is_string());

        let model =
            Transformer::load(&outcome.checkpoint, &Device::Cpu, Trainable::Nothing).unwrap();
        let codec = TextCodec::load(&outcome.checkpoint).unwrap();
        let prompt = codec
            .encode_prompt(&Prompt::Text("What is a ranking?".to_owned()))
            .unwrap();
        let config = SamplingConfig {
            temperature: 1.0,
            top_p: 1.0,
            max_new_tokens: 20,
            seed: 1,
        };
        let requests = [0, 1].map(|stream| SampleRequest { prompt: 0, stream });
        let samples = generate(
            &model,
            &[prompt],
            &requests,
            &config,
            codec.eos_id,
            &mut |_| true,
        );
        for sample in samples.unwrap() {
            assert!(!sample.tokens.is_empty());
            codec.decode(&sample.tokens).unwrap();
        }
    }
}
