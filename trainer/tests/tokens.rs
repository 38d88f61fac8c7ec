//! The rules for BOS, EOS and padding, over whole runs.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::path::Path;

use candle_core::Device;
use place::Place;
use serde_json::Value;
use tiny::{Kept, WORDS};
use trainer::generate::{SampleRequest, generate};
use trainer::model::transformer::Transformer;
use trainer::model::weights::Trainable;
use trainer::records::Prompt;
use trainer::sampling::SamplingConfig;
use trainer::text::TextCodec;
use trainer::{dpo, ppo, reward, sft};

/// How many of 64 completions end by themselves within eight tokens. The answers that are learnt are
/// of two words, so EOS is their third token.
fn n_finished(folder: &Path) -> (usize, usize) {
    let model = Transformer::load(folder, &Device::Cpu, Trainable::Nothing).unwrap();
    let codec = TextCodec::load(folder).unwrap();
    let prompt = |index: usize| {
        let text = format!("please say {}", WORDS[index % WORDS.len()]);
        codec.encode_prompt(&Prompt::Text(text)).unwrap()
    };
    let prompts: Vec<Vec<u32>> = (0..WORDS.len()).map(prompt).collect();
    let requests: Vec<SampleRequest> = (0..64)
        .map(|stream| SampleRequest {
            prompt: stream as usize % prompts.len(),
            stream,
        })
        .collect();
    let config = SamplingConfig {
        temperature: 1.0,
        top_p: 1.0,
        max_new_tokens: 8,
        seed: 2,
    };
    let samples = generate(
        &model,
        &prompts,
        &requests,
        &config,
        codec.eos_id,
        &mut |_| true,
    );
    let samples = samples.unwrap();
    let finished = samples.iter().filter(|sample| sample.is_finished);
    let in_place = finished.clone().filter(|sample| sample.tokens.len() == 3);
    (finished.count(), in_place.count())
}

/// Item 6 of the checklist: a tokenizer that puts BOS before every text by itself. The template writes
/// its own, so a conversation has as many as turns and what opens the answer, and a completion none.
#[test]
fn bos_comes_once_with_a_tokenizer_that_adds_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
    for entry in std::fs::read_dir(&tiny).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let bos = "<|im_start|>";
    let first = serde_json::json!({"SpecialToken": {"id": bos, "type_id": 0}});
    let single = tokenizer["post_processor"]["single"]
        .as_array_mut()
        .unwrap();
    single.insert(0, first);
    tokenizer["post_processor"]["special_tokens"] =
        serde_json::json!({bos: {"id": bos, "ids": [1], "tokens": [bos]}});
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let adds = tokenizers::Tokenizer::from_file(&path).unwrap();
    assert_eq!(
        adds.encode("red", true).unwrap().get_ids()[0],
        1,
        "it adds BOS"
    );

    let (plain, codec) = (
        TextCodec::load(&tiny).unwrap(),
        TextCodec::load(folder.path()).unwrap(),
    );
    let prompt = Prompt::Text("please say red".to_owned());
    let tokens = codec.encode_prompt(&prompt).unwrap();
    assert_eq!(tokens, plain.encode_prompt(&prompt).unwrap());
    // The system's turn, which the template puts first, the user's, and what opens the answer.
    assert_eq!(tokens.iter().filter(|token| **token == 1).count(), 3);
    assert_eq!(tokens.iter().take_while(|token| **token == 1).count(), 1);
    assert!(!codec.encode_completion("red").unwrap().contains(&1));
}

/// Item 1 of the checklist: padding is EOS in the tiny model, and EOS is learnt all the same.
#[test]
fn after_fine_tuning_completions_end_where_the_demonstrations_do() {
    let place = Place::new();
    let codec = TextCodec::load(&place.path("base")).unwrap();
    assert_eq!(codec.pad_id, codec.eos_id);
    let mut job = place.sft("sft");
    job.config.epochs = 20;
    let outcome = sft::run(&job, &mut Kept::default()).unwrap();
    let (before, _) = n_finished(&job.base);
    let (after, in_place) = n_finished(&outcome.checkpoint);
    assert!(before < 40, "{before} of 64 ended before");
    assert!(
        after >= 62 && in_place >= 58,
        "{after} of 64, {in_place} after two words"
    );
}

/// Item 6 of the checklist: what four runs write names the template of the model that they
/// began with, and it is the template in their folders.
#[test]
fn every_checkpoint_names_the_chat_template_that_it_was_trained_with() {
    let place = Place::new();
    let codec = TextCodec::load(&place.path("base")).unwrap();
    let mut job = place.sft("sft");
    job.config.epochs = 1;
    let sft = sft::run(&job, &mut Kept::default()).unwrap().checkpoint;
    let mut job = place.reward("reward");
    job.base = sft.clone();
    job.config.epochs = 1;
    let reward = reward::run(&job, &mut Kept::default()).unwrap().checkpoint;
    let mut job = place.ppo(&reward, "ppo");
    job.base = sft.clone();
    job.config.iterations = 1;
    let policy = ppo::run(&job, &mut Kept::default()).unwrap().checkpoint;
    let mut job = place.dpo("dpo");
    job.base = sft.clone();
    job.config.epochs = 1;
    let direct = dpo::run(&job, &mut Kept::default()).unwrap().checkpoint;
    for folder in [sft, reward, policy, direct] {
        let lineage = std::fs::read(folder.join("plackett.json")).unwrap();
        let lineage: Value = serde_json::from_slice(&lineage).unwrap();
        assert_eq!(
            lineage["template"],
            codec.template_hash(),
            "{}",
            folder.display()
        );
        let kept = TextCodec::load(&folder).unwrap();
        assert_eq!(kept.template_hash(), codec.template_hash());
    }
}
