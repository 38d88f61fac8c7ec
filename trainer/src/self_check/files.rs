//! Checks of what lies on disk: that models are those that were recorded and read text alike, that
//! text survives the tokenizer, and that a head survives being written.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;

use crate::checkpoint::{read_lineage, sha256_of_weights};
use crate::error::{AtPath, Result, TrainerError};
use crate::model::weights::Weights;
use crate::progress::Progress;
use crate::text::TextCodec;

/// Lines of a data file whose texts go through the tokenizer and back.
const LINES: usize = 8;

/// The first digits of a hash, for people to compare.
pub fn short(hash: &str) -> &str {
    &hash[..hash.len().min(12)]
}

/// The weights, the chat template and the vocabulary in `folder` are those that were recorded when
/// the checkpoint was made. A model from elsewhere has no record; its hashes are shown.
///
/// # Errors
/// `Refused` when one is another.
pub fn origin(
    role: &str,
    folder: &Path,
    codec: &TextCodec,
    progress: &mut dyn Progress,
) -> Result<()> {
    let lineage = read_lineage(folder)?;
    let recorded = |pick: fn(&crate::checkpoint::Lineage) -> &String| {
        lineage.as_ref().map(pick).filter(|hash| !hash.is_empty())
    };
    for (what, found, recorded) in [
        (
            "weights",
            sha256_of_weights(folder)?,
            recorded(|lineage| &lineage.weights),
        ),
        (
            "chat template",
            codec.template_hash(),
            recorded(|lineage| &lineage.template),
        ),
        (
            "vocabulary",
            codec.vocab_hash().to_owned(),
            recorded(|lineage| &lineage.vocabulary),
        ),
    ] {
        let found = found.as_str();
        let detail = match recorded {
            None => format!(
                "SHA-256 {}; nothing is recorded to compare with",
                short(found)
            ),
            Some(same) if same == found => format!("SHA-256 {}, as recorded", short(found)),
            Some(other) => format!(
                "SHA-256 {}, but {} was recorded when {} was made",
                short(found),
                short(other),
                folder.display()
            ),
        };
        let holds = recorded.is_none_or(|recorded| recorded == found);
        progress.check(&format!("{what}: {role}"), holds, detail)?;
    }
    Ok(())
}

/// No weight is infinite or not a number.
///
/// # Errors
/// `Refused`, naming the first tensors that hold one.
pub fn finite_weights(name: &str, weights: &Weights, progress: &mut dyn Progress) -> Result<()> {
    let (mut wrong, mut n) = (Vec::new(), 0);
    for (tensor_name, tensor) in weights.tensors() {
        n += tensor.elem_count();
        // The largest is infinite, and the sum not a number, if any value is.
        let size = tensor.detach().abs()?;
        let largest = size.max_all()?.to_scalar::<f32>()?;
        let sum = size.sum_all()?.to_scalar::<f32>()?;
        if !largest.is_finite() || sum.is_nan() {
            wrong.push(tensor_name.as_str());
        }
    }
    let detail = match wrong.is_empty() {
        true => format!("all {n} numbers"),
        false => format!("not those of {}", wrong[..wrong.len().min(5)].join(", ")),
    };
    progress.check(
        &format!("weights are finite: {name}"),
        wrong.is_empty(),
        detail,
    )
}

/// The texts of a data file's first lines give the same tokens after they went through the
/// tokenizer and back.
///
/// # Errors
/// `Refused`, naming the first text that does not; or when the file cannot be read.
pub fn round_trip(data: &Path, codec: &TextCodec, progress: &mut dyn Progress) -> Result<()> {
    let (mut n, mut exact, mut broken) = (0, 0, None);
    let lines = BufReader::new(File::open(data).at(data)?).lines();
    for (index, line) in lines.take(LINES).enumerate() {
        let line = line.at(data)?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Value = serde_json::from_str(&line).map_err(|error| {
            TrainerError::input(data, index + 1, "line", format!("is not JSON: {error}"))
        })?;
        for text in texts(&line) {
            let tokens = codec.encode(text)?;
            let back = codec.decode_all(&tokens)?;
            n += 1;
            exact += usize::from(back == text);
            if codec.encode(&back)? != tokens && broken.is_none() {
                broken = Some((index + 1, text.chars().take(60).collect::<String>()));
            }
        }
    }
    let detail = match &broken {
        None => format!("{n} texts give their tokens again, {exact} of them letter for letter"),
        Some((line, text)) => format!(
            "line {line} of {}: {text:?} comes back as other tokens, so what people read is not \
             what the model reads",
            data.display()
        ),
    };
    progress.check("text survives the tokenizer", broken.is_none(), detail)
}

/// Every text of a demonstration, ranking, prompt or plain text.
fn texts(line: &Value) -> Vec<&str> {
    let mut texts = Vec::new();
    for key in ["messages", "prompt", "completions"] {
        for turn in line[key].as_array().into_iter().flatten() {
            texts.extend(turn["content"].as_str().or(turn["text"].as_str()));
        }
    }
    texts.extend(line["prompt"].as_str());
    texts.extend(line["text"].as_str());
    texts
}

/// A reward or value model's head, written beside the run and read back, is the same to the bit.
///
/// # Errors
/// `Refused` when it is not; or when the disk is full.
pub fn head_survives(
    name: &str,
    head: &Tensor,
    beside: &Path,
    progress: &mut dyn Progress,
) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix(".head-")
        .tempdir_in(beside)
        .at(beside)?;
    let path = folder.path().join("head.safetensors");
    let named = [("score.weight", head.detach())];
    safetensors::serialize_to_file(named, None, &path)
        .map_err(|error| TrainerError::checkpoint(&path, format!("cannot be written: {error}")))?;
    let read = candle_core::safetensors::load(&path, &Device::Cpu)?;
    let bits = |tensor: &Tensor| -> Result<Vec<u32>> {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.into_iter().map(f32::to_bits).collect())
    };
    let back = read.get("score.weight");
    let holds = match back {
        Some(back) => back.dims() == head.dims() && bits(back)? == bits(head)?,
        None => false,
    };
    progress.check(
        &format!("head survives saving: {name}"),
        holds,
        format!(
            "{} numbers, written beside the run and read back",
            head.elem_count()
        ),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeMap;

    use super::*;
    use crate::progress::Silent;

    fn tiny() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny")
    }

    #[test]
    fn a_weight_that_is_not_finite_is_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let tensor = Tensor::new(&[1.0, bad], &Device::Cpu).unwrap();
            let good = Tensor::new(&[f32::MAX, f32::MAX], &Device::Cpu).unwrap();
            let weights = BTreeMap::from([("bad".to_owned(), tensor), ("good".to_owned(), good)]);
            let weights = Weights::from_tensors(weights);
            let error = finite_weights("model", &weights, &mut Silent).unwrap_err();
            assert!(error.to_string().ends_with("not those of bad"), "{error}");
        }
    }

    #[test]
    fn another_template_or_other_weights_than_recorded_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.safetensors",
        ] {
            std::fs::copy(tiny().join(name), folder.path().join(name)).unwrap();
        }
        let template = folder.path().join("chat_template.jinja");
        std::fs::copy(tiny().join("chat_template.jinja"), &template).unwrap();
        let check = || {
            let codec = TextCodec::load(folder.path()).unwrap();
            origin("base", folder.path(), &codec, &mut Silent)
        };
        check().unwrap();
        let codec = TextCodec::load(folder.path()).unwrap();
        let mut lineage = crate::checkpoint::Lineage::new(crate::checkpoint::CheckpointKind::Sft);
        lineage.template = codec.template_hash();
        lineage.vocabulary = codec.vocab_hash().to_owned();
        lineage.weights = sha256_of_weights(folder.path()).unwrap();
        let path = folder.path().join("plackett.json");
        std::fs::write(&path, serde_json::to_vec(&lineage).unwrap()).unwrap();
        check().unwrap();
        std::fs::write(&template, "{{ messages[0].content }}").unwrap();
        let error = check().unwrap_err().to_string();
        assert!(error.contains("chat template: base"), "{error}");
        lineage.template = TextCodec::load(folder.path()).unwrap().template_hash();
        lineage.weights = "0".repeat(64);
        std::fs::write(&path, serde_json::to_vec(&lineage).unwrap()).unwrap();
        let error = check().unwrap_err().to_string();
        assert!(
            error.contains("weights: base") && error.contains("000000000000"),
            "{error}"
        );
    }

    #[test]
    fn text_that_the_tokenizer_does_not_give_back_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data.jsonl");
        let codec = TextCodec::load(&tiny()).unwrap();
        let line = r#"{"prompt": "hello", "completions": [{"text": "a b"}, {"text": "c  d"}]}"#;
        std::fs::write(&data, line).unwrap();
        round_trip(&data, &codec, &mut Silent).unwrap();
        // A decoder that swallows spaces.
        let path = folder.path().join("tokenizer.json");
        let mut tokenizer: Value =
            serde_json::from_slice(&std::fs::read(tiny().join("tokenizer.json")).unwrap()).unwrap();
        tokenizer["decoder"] = serde_json::json!({"type": "Sequence", "decoders": [
            {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            {"type": "Replace", "pattern": {"String": " "}, "content": ""},
        ]});
        std::fs::write(&path, tokenizer.to_string()).unwrap();
        for name in ["tokenizer_config.json", "chat_template.jinja"] {
            std::fs::copy(tiny().join(name), folder.path().join(name)).unwrap();
        }
        let codec = TextCodec::load(folder.path()).unwrap();
        let error = round_trip(&data, &codec, &mut Silent)
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 1") && error.contains("a b"), "{error}");
    }

    #[test]
    fn a_head_survives_with_every_bit() {
        let folder = tempfile::tempdir().unwrap();
        let head = Tensor::new(&[[1.5_f32, -0.0, f32::MIN_POSITIVE]], &Device::Cpu).unwrap();
        head_survives("reward model", &head, folder.path(), &mut Silent).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
