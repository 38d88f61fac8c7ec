//! Adapters and ensembles from anywhere: whatever is wrong with one ends a run of PPO in one sentence
//! that names the file, before the run has a folder.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
mod refusal;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use place::Place;
use refusal::assert_refused;
use serde_json::{Value, json};
use tiny::Kept;
use trainer::config::LoraConfig;
use trainer::{ppo, reward, sft};

const TENSORS: &str = "adapter/adapter_model.safetensors";
const INNER: &str = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight";
const OUTER: &str = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight";
const HEAD: &str = "base_model.model.score.weight";

fn lora() -> Option<LoraConfig> {
    Some(LoraConfig {
        rank: 2,
        ..LoraConfig::default()
    })
}

/// A place with a judge of two heads that was trained by an adapter.
fn with_judge() -> Place {
    let place = Place::new();
    let mut job = place.reward("judge");
    job.config.lora = lora();
    job.config.members = 2;
    job.config.epochs = 1;
    reward::run(&job, &mut Kept::default()).unwrap();
    place
}

fn copy_folder(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(&path, &copy),
            false => std::fs::copy(&path, copy).map(|_| ()).unwrap(),
        }
    }
}

fn change_tensors(path: &Path, change: impl Fn(&mut HashMap<String, Tensor>)) {
    let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, path).unwrap();
}

fn change_note(folder: &Path, change: impl Fn(&mut Value)) {
    let path = folder.join("adapter/plackett.json");
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Runs PPO by adapters with the judge changed so.
fn assert_judge_refused(place: &Place, words: &[&str], change: impl Fn(&Path)) {
    let strange = place.path("strange");
    copy_folder(&place.path("judge/checkpoint"), &strange);
    change(&strange);
    assert_refused(place, words, |place| {
        let mut job = place.ppo(&strange, "out");
        job.config.lora = lora();
        ppo::run(&job, &mut Kept::default())
    });
}

fn assert_tensor_refused(
    place: &Place,
    words: &[&str],
    name: &str,
    change: impl Fn(&Tensor) -> Option<Tensor>,
) {
    let words = [&["strange/adapter/adapter_model.safetensors"], words].concat();
    assert_judge_refused(place, &words, |folder| {
        change_tensors(&folder.join(TENSORS), |tensors| {
            let old = tensors.remove(name).unwrap();
            if let Some(new) = change(&old) {
                tensors.insert(name.to_owned(), new);
            }
        });
    });
}

#[test]
fn an_adapters_tensors_are_held_against_the_base() {
    let place = with_judge();
    for name in [INNER, OUTER, HEAD] {
        for value in [f64::NAN, f64::INFINITY] {
            assert_tensor_refused(&place, &[name, "not finite"], name, |old| {
                Some((old.zeros_like().unwrap() + value).unwrap())
            });
        }
        for dims in [vec![3, 5], vec![4], vec![0, 2], vec![1, 2, 2]] {
            let words = [name, "where the base asks for"];
            assert_tensor_refused(&place, &words, name, |old| {
                Some(Tensor::zeros(dims.clone(), DType::F32, old.device()).unwrap())
            });
        }
    }
    for name in [INNER, OUTER] {
        assert_tensor_refused(&place, &["has no tensor", name], name, |_| None);
        // Finite, and of the right shape.
        assert_tensor_refused(&place, &["is not what was recorded"], name, |old| {
            Some((old + 1.0).unwrap())
        });
    }
    assert_judge_refused(&place, &["has no reward head"], |folder| {
        change_tensors(&folder.join(TENSORS), |tensors| {
            tensors.remove(HEAD).unwrap();
        });
        // As if it had been written so.
        let hash = trainer::checkpoint::sha256(&folder.join(TENSORS)).unwrap();
        change_note(folder, |note| note["tensors"] = json!(hash));
    });
    assert_judge_refused(&place, &[TENSORS, "does not name: stranger"], |folder| {
        change_tensors(&folder.join(TENSORS), |tensors| {
            let one = tensors[INNER].clone();
            tensors.insert("stranger".to_owned(), one);
        });
    });
    assert_judge_refused(&place, &[TENSORS, "holds no adapter"], |folder| {
        change_tensors(&folder.join(TENSORS), HashMap::clear);
    });
    for (bytes, word) in [
        (&b"what"[..], "cannot be read"),
        (&[255; 64], "cannot be read"),
    ] {
        assert_judge_refused(&place, &[TENSORS, word], |folder| {
            std::fs::write(folder.join(TENSORS), bytes).unwrap();
        });
    }
    assert_judge_refused(&place, &[TENSORS, "cannot be read"], |folder| {
        let path = folder.join(TENSORS);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert_judge_refused(&place, &[TENSORS], |folder| {
        std::fs::remove_file(folder.join(TENSORS)).unwrap();
    });
}

#[test]
fn what_an_adapter_says_of_itself_is_checked() {
    let place = with_judge();
    let note = "adapter/plackett.json";
    for (rank, word) in [
        (json!(0), "lora.rank is 0"),
        (json!(-1), "is damaged"),
        (json!(99_999), "lora.rank is 99999"),
        // Another than that of the tensors.
        (json!(3), "where the base asks for"),
    ] {
        assert_judge_refused(&place, &["strange/adapter", word], |folder| {
            change_note(folder, |note| note["lora"]["rank"] = rank.clone());
        });
    }
    assert_judge_refused(&place, &[note, "lora.targets"], |folder| {
        change_note(folder, |note| note["lora"]["targets"] = json!([]));
    });
    assert_judge_refused(&place, &[TENSORS, "does not name"], |folder| {
        change_note(folder, |note| note["lora"]["targets"] = json!(["query"]));
    });
    assert_judge_refused(&place, &[note, "is damaged"], |folder| {
        std::fs::write(folder.join(note), "{").unwrap();
    });
    assert_judge_refused(&place, &[note], |folder| {
        std::fs::remove_file(folder.join(note)).unwrap();
    });
}

#[test]
fn an_adapter_without_its_base_is_no_model() {
    let place = with_judge();
    let strange = place.path("strange");
    copy_folder(&place.path("judge/checkpoint/adapter"), &strange);
    let words = ["strange", "is an adapter without its base"];
    assert_refused(&place, &words, |place| {
        ppo::run(&place.ppo(&strange, "out"), &mut Kept::default())
    });
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ] {
        let _ = std::fs::copy(place.path("base").join(name), strange.join(name));
    }
    assert_refused(&place, &words, |place| {
        let mut job = place.sft("out");
        job.base = strange.clone();
        sft::run(&job, &mut Kept::default())
    });
    let words = ["strange", "has no model.safetensors"];
    assert_judge_refused(&place, &words, |folder| {
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    });
}

#[test]
fn the_members_of_an_ensemble_are_held_against_the_model() {
    let place = with_judge();
    let name = "members.safetensors";
    let path = ["strange/members.safetensors"];
    for tensor in ["score.weight", "bias"] {
        assert_judge_refused(&place, &[path[0], "not finite"], |folder| {
            change_tensors(&folder.join(name), |tensors| {
                let bad = (tensors[tensor].zeros_like().unwrap() + f64::NAN).unwrap();
                tensors.insert(tensor.to_owned(), bad);
            });
        });
        assert_judge_refused(&place, &[path[0], "has no tensor", tensor], |folder| {
            change_tensors(&folder.join(name), |tensors| {
                tensors.remove(tensor).unwrap();
            });
        });
    }
    for dims in [vec![2, 5], vec![3, 32], vec![0, 32], vec![2]] {
        assert_judge_refused(&place, &[path[0], "holds heads of"], |folder| {
            change_tensors(&folder.join(name), |tensors| {
                let other = Tensor::zeros(dims.clone(), DType::F32, &Device::Cpu).unwrap();
                tensors.insert("score.weight".to_owned(), other);
            });
        });
    }
    assert_judge_refused(&place, &[path[0], "cannot be read"], |folder| {
        change_tensors(&folder.join(name), |tensors| {
            let other = Tensor::zeros((2, 2), DType::F64, &Device::Cpu).unwrap();
            tensors.insert("bias".to_owned(), other);
        });
    });
    assert_judge_refused(&place, &[path[0], "cannot be read"], |folder| {
        std::fs::write(folder.join(name), [255; 20]).unwrap();
    });
}
