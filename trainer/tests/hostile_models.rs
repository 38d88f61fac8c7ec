//! Model folders from anywhere: whatever is wrong with one ends a run in one
//! sentence that names the file, before the run has a folder.

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
use trainer::error::Result;
use trainer::sft::Outcome;
use trainer::{dpo, ppo, reward, sft};

fn copy_folder(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn change_json(path: &Path, change: impl Fn(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

fn change_weights(folder: &Path, change: impl Fn(&mut HashMap<String, Tensor>)) {
    let path = folder.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
}

/// Runs each kind of training from a base changed so.
fn assert_base_refused(place: &Place, words: &[&str], change: impl Fn(&Path)) {
    let strange = place.path("strange");
    copy_folder(&place.path("base"), &strange);
    change(&strange);
    let progress = &mut Kept::default();
    assert_refused(place, words, |place| {
        let mut job = place.sft("out");
        job.base = strange.clone();
        sft::run(&job, progress)
    });
    assert_refused(place, words, |place| {
        let mut job = place.reward("out");
        job.base = strange.clone();
        reward::run(&job, progress)
    });
    assert_refused(place, words, |place| {
        let mut job = place.dpo("out");
        job.base = strange.clone();
        dpo::run(&job, progress)
    });
    assert_refused(place, words, |place| {
        let mut job = place.ppo(&place.path("judge/checkpoint"), "out");
        job.base = strange.clone();
        ppo::run(&job, progress)
    });
}

/// Runs PPO with a reward model changed so.
fn assert_reward_refused(place: &Place, words: &[&str], change: impl Fn(&Path)) {
    let strange = place.path("strange");
    copy_folder(&place.path("judge/checkpoint"), &strange);
    change(&strange);
    assert_refused(place, words, |place| {
        ppo::run(&place.ppo(&strange, "out"), &mut Kept::default())
    });
}

fn assert_model_refused(place: &Place, words: &[&str], change: impl Fn(&Path)) {
    assert_base_refused(place, words, &change);
    assert_reward_refused(place, words, &change);
}

fn with_judge() -> Place {
    let place = Place::new();
    place.trained_reward("judge");
    place
}

#[test]
fn weights_that_are_not_finite_are_refused_by_file_and_tensor() {
    let place = with_judge();
    let name = "model.layers.1.mlp.up_proj.weight";
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let words = ["strange/model.safetensors", name, "not finite"];
            assert_model_refused(&place, &words, |folder| {
                change_weights(folder, |tensors| {
                    let bad = (tensors[name].zeros_like().unwrap() + value).unwrap();
                    tensors.insert(name.to_owned(), bad.to_dtype(dtype).unwrap());
                });
            });
        }
    }
    assert_reward_refused(
        &place,
        &["strange/model.safetensors", "score.weight"],
        |folder| {
            change_weights(folder, |tensors| {
                let bad = (tensors["score.weight"].zeros_like().unwrap() + f64::NAN).unwrap();
                tensors.insert("score.weight".to_owned(), bad);
            });
        },
    );
    for bias in [json!("high"), json!(1e300), json!([])] {
        assert_reward_refused(
            &place,
            &["strange/config.json", "reward_bias is"],
            |folder| {
                change_json(&folder.join("config.json"), |config| {
                    config["reward_bias"] = bias.clone();
                });
            },
        );
    }
}

#[test]
fn tensors_of_another_shape_or_name_are_refused() {
    let place = with_judge();
    let name = "model.layers.0.self_attn.k_proj.weight";
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    for shape in [&[17, 32][..], &[512], &[16, 32, 1], &[0, 32], &[]] {
        assert_model_refused(
            &place,
            &["strange", name, "config.json asks for"],
            |folder| {
                change_weights(folder, |tensors| {
                    tensors.insert(name.to_owned(), ones(shape));
                });
            },
        );
    }
    assert_model_refused(&place, &["strange", "has no tensor", name], |folder| {
        change_weights(folder, |tensors| {
            tensors.remove(name);
        });
    });
    for extra in ["model.layers.2.mlp.up_proj.weight", "x", "", "../x"] {
        assert_model_refused(&place, &["strange", "does not have:"], |folder| {
            change_weights(folder, |tensors| {
                tensors.insert(extra.to_owned(), ones(&[1]));
            });
        });
    }
    assert_reward_refused(
        &place,
        &["strange", "has no tensor score.weight"],
        |folder| {
            change_weights(folder, |tensors| {
                tensors.remove("score.weight");
            });
        },
    );
}

/// A safetensors file of a header and some data, as long as the header says or not.
fn safetensors(header: &str, length: Option<u64>, n_bytes: usize) -> Vec<u8> {
    let mut bytes = length.unwrap_or(header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + n_bytes, 0);
    bytes
}

#[test]
fn a_torn_or_foreign_weights_file_is_refused() {
    let place = with_judge();
    let whole = std::fs::read(place.path("base/model.safetensors")).unwrap();
    let entry = |shape: &str, range: &str| {
        format!("{{\"x\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{range}}}}}")
    };
    let files = [
        Vec::new(),
        b"short".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        whole[..100].to_vec(),
        [&whole[..], b"more"].concat(),
        b"PK\x03\x04 is a zip file of pickles, as PyTorch writes".to_vec(),
        b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
        vec![0xff; 4096],
        safetensors("{}", Some(u64::MAX), 8),
        safetensors("{}", Some(1 << 40), 8),
        safetensors("[]", None, 8),
        safetensors(&entry("[2]", "[0,9999999]"), None, 8),
        safetensors(&entry("[2]", "[8,0]"), None, 8),
        safetensors(&entry("[2]", "[-8,0]"), None, 8),
        safetensors(&entry("[3]", "[0,8]"), None, 8),
        safetensors(&entry("[9223372036854775808,4]", "[0,8]"), None, 8),
        safetensors(&entry("[4611686018427387904,4]", "[0,8]"), None, 8),
        safetensors(&entry("[2]", "[0,8]").replace("F32", "F33"), None, 8),
        safetensors(&entry("[2]", "[0,8]"), None, 0),
        safetensors(&"[".repeat(100_000), None, 8),
    ];
    for (index, bytes) in files.iter().enumerate() {
        assert_model_refused(&place, &["strange/model.safetensors: "], |folder| {
            std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
            let said = trainer::checkpoint::inspect(folder);
            // Its count of parameters looks at less; it must not panic either.
            assert!(said.is_ok() || said.is_err(), "{index}");
        });
    }
    assert_model_refused(&place, &["strange", "model.safetensors"], |folder| {
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    });
    assert_model_refused(&place, &["strange/model.safetensors: "], |folder| {
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
        std::fs::create_dir(folder.join("model.safetensors")).unwrap();
    });
    // Whole, but of another kind of model.
    assert_model_refused(&place, &["strange", "does not have: x"], |folder| {
        let bytes = safetensors(&entry("[2]", "[0,8]"), None, 8);
        std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    });
}

#[test]
fn an_index_names_files_beside_it_and_no_others() {
    let place = with_judge();
    for (index, words) in [
        (
            json!({"weight_map": {"x": "model-1.safetensors"}}),
            "names the file \"model-1",
        ),
        (
            json!({"weight_map": {"x": "../base/model.safetensors"}}),
            "names the file \"../base",
        ),
        (
            json!({"weight_map": {"x": "/etc/passwd"}}),
            "names the file \"/etc/passwd\"",
        ),
        (json!({"weight_map": {"x": ".."}}), "names the file \"..\""),
        (json!({"weight_map": {"x": "/"}}), "names the file \"/\""),
        (json!({"weight_map": {"x": ""}}), "names the file \"\""),
        (
            json!({"weight_map": {"x": 5}}),
            "names no file for x, but 5",
        ),
        (json!({"weight_map": {}}), "names no files"),
        (json!({"weight_map": []}), "names no files"),
        (json!([]), "names no files"),
    ] {
        let words = ["strange/model.safetensors.index.json: ", words];
        assert_model_refused(&place, &words, |folder| {
            std::fs::remove_file(folder.join("model.safetensors")).unwrap();
            let path = folder.join("model.safetensors.index.json");
            std::fs::write(path, index.to_string()).unwrap();
        });
    }
    let words = ["strange/model.safetensors.index.json: is not JSON"];
    assert_model_refused(&place, &words, |folder| {
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
        std::fs::write(folder.join("model.safetensors.index.json"), "{").unwrap();
    });
}

#[test]
fn a_configuration_of_absurd_numbers_is_refused_before_memory_is_taken() {
    let place = with_judge();
    let huge = json!(1_000_000_000_000_u64);
    for (field, value, words) in [
        ("hidden_size", json!(0), "hidden_size is 0"),
        (
            "hidden_size",
            json!(-32),
            "hidden_size is -32, not a whole number",
        ),
        ("hidden_size", json!("32"), "hidden_size is \"32\""),
        ("hidden_size", json!(1e308), "hidden_size is 1e+308"),
        ("hidden_size", huge.clone(), "hidden_size is 1000000000000"),
        ("intermediate_size", json!(0), "intermediate_size is 0"),
        ("num_attention_heads", json!(0), "num_attention_heads is 0"),
        ("num_attention_heads", json!(5), "not a multiple"),
        ("num_key_value_heads", json!(3), "not a multiple"),
        (
            "num_hidden_layers",
            json!(1_000_000_000),
            "num_hidden_layers is 1000000000",
        ),
        (
            "num_hidden_layers",
            json!(1_000_000),
            "has no tensor model.layers.2.",
        ),
        ("vocab_size", huge.clone(), "vocab_size is 1000000000000"),
        ("vocab_size", json!(1_000_000), "model.embed_tokens.weight"),
        ("vocab_size", json!(null), "no field vocab_size"),
        ("vocab_size", json!([20]), "vocab_size is [20]"),
        (
            "max_position_embeddings",
            json!(0),
            "max_position_embeddings is 0",
        ),
        (
            "max_position_embeddings",
            huge,
            "max_position_embeddings is 1",
        ),
        (
            "head_dim",
            json!(1_048_576),
            "head_dim is 1048576|too many for heads|asks for",
        ),
        ("rms_norm_eps", json!(-1), "epsilon"),
        ("rms_norm_eps", json!("small"), "rms_norm_eps is \"small\""),
        ("rope_theta", json!(0), "rope_theta is 0"),
        (
            "rope_scaling",
            json!({"rope_type": "llama3"}),
            "rope scaling has no field",
        ),
        (
            "rope_scaling",
            json!({"rope_type": "linear", "factor": -1}),
            "factor is -1",
        ),
        ("model_type", json!("mamba"), "model_type is \"mamba\""),
        ("model_type", json!(7), "model_type is \"none\""),
        (
            "tie_word_embeddings",
            json!("yes"),
            "tie_word_embeddings is \"yes\"",
        ),
    ] {
        let strange = place.path("strange");
        let change = |folder: &Path| {
            change_json(&folder.join("config.json"), |config| {
                config[field] = value.clone();
            });
        };
        let words: Vec<&str> = words.split('|').collect();
        if let [words] = words.as_slice() {
            assert_model_refused(&place, &["strange", words], change);
        } else {
            // Any of these is right.
            assert_model_refused(&place, &["strange"], change);
        }
        assert!(strange.exists());
    }
    for (bytes, words) in [
        (&b""[..], "is not JSON"),
        (b"{\"model_type\": ", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1, 2]", "model_type is \"none\""),
        (b"7", "model_type is \"none\""),
        (b"{\"hidden_size\": 1e999}", "is not JSON"),
    ] {
        assert_model_refused(&place, &["strange/config.json: ", words], |folder| {
            std::fs::write(folder.join("config.json"), bytes).unwrap();
        });
    }
}

#[test]
fn a_model_that_text_cannot_be_put_to_is_refused() {
    let place = with_judge();
    assert_model_refused(&place, &["strange", "has no tokenizer.json"], |folder| {
        std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    });
    let tokenizer = |words: &str, change: &dyn Fn(&mut Value)| {
        assert_model_refused(&place, &["strange/tokenizer.json: ", words], |folder| {
            change_json(&folder.join("tokenizer.json"), change);
        });
    };
    tokenizer("is not a tokenizer", &|value| *value = json!(5));
    tokenizer("is not a tokenizer", &|value| value["model"] = json!(null));
    tokenizer("is not a tokenizer", &|value| {
        value["model"]["type"] = json!("x");
    });
    tokenizer("is not a tokenizer", &|value| {
        value["model"]["vocab"] = json!({"a": -1});
    });
    tokenizer("is not a tokenizer", &|value| value["version"] = json!("9"));
    tokenizer("its dropout of 0.5", &|value| {
        value["model"]["dropout"] = json!(0.5);
    });
    tokenizer("is not a tokenizer", &|value| {
        value["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": false});
    });
    assert_model_refused(
        &place,
        &["strange/tokenizer.json: is not a tokenizer"],
        |folder| {
            std::fs::write(folder.join("tokenizer.json"), "{").unwrap();
        },
    );
    assert_base_refused(
        &place,
        &["strange", "tokenizer.json has a token 5000"],
        |folder| {
            change_json(&folder.join("tokenizer.json"), |value| {
                value["model"]["vocab"]["extra"] = json!(5000);
            });
        },
    );
    let settings = |words: &str, change: &dyn Fn(&mut Value)| {
        assert_model_refused(&place, &["strange", words], |folder| {
            change_json(&folder.join("tokenizer_config.json"), change);
        });
    };
    settings("names no eos_token", &|value| {
        value["eos_token"] = json!(null);
    });
    settings("names no eos_token", &|value| {
        value["eos_token"] = json!([1]);
    });
    settings("has no token <none>", &|value| {
        value["eos_token"] = json!("<none>");
    });
    settings("has no chat template", &|value| {
        value["chat_template"] = json!("");
    });
    settings("has no chat template", &|value| {
        value["chat_template"] = json!(5);
    });
    settings("has no chat template", &|value| *value = json!([]));
    assert_model_refused(
        &place,
        &["strange/tokenizer_config.json: is not JSON"],
        |folder| {
            std::fs::write(folder.join("tokenizer_config.json"), "{").unwrap();
        },
    );
    assert_model_refused(
        &place,
        &["strange/chat_template.jinja: is not text"],
        |folder| {
            std::fs::write(folder.join("chat_template.jinja"), b"\xff").unwrap();
        },
    );
    assert_model_refused(&place, &["strange/chat_template.jinja: "], |folder| {
        std::fs::create_dir(folder.join("chat_template.jinja")).unwrap();
    });
}

/// What is wrong with a template shows at the first text, and is said of it.
#[test]
fn a_chat_template_that_is_broken_endless_or_explosive_is_refused() {
    let place = with_judge();
    let loops = "{% for i in range(99999) %}".repeat(3);
    let ends = "{% endfor %}".repeat(3);
    for (template, words) in [
        ("{% for m in".to_owned(), "unexpected end"),
        ("{{ messages[99].content.x }}".to_owned(), "undefined"),
        ("{{ raise_exception('no') }}".to_owned(), "unknown"),
        ("{% if messages[0].role == 'x' %}x{% endif %}".to_owned(), "makes nothing"),
        (format!("{loops}x{ends}"), "out of fuel"),
        (format!("{loops}{{{{ messages }}}}{ends}"), "out of fuel"),
        (
            "{% set ns = namespace(x='xxxx') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}\
             {% endfor %}{{ ns.x }}"
                .to_owned(),
            "MiB of text",
        ),
        ("{{ 'x' * 10 ** 12 }}".to_owned(), "MiB of text"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(), "recursion"),
    ] {
        let words = ["line 1, field ", "chat template: ", words];
        assert_base_refused(&place, &words, |folder| {
            std::fs::write(folder.join("chat_template.jinja"), &template).unwrap();
        });
    }
}

/// Items 6 and 7 of the checklist.
#[test]
fn a_reward_model_of_other_tokens_is_refused_before_the_run_has_a_folder() {
    let place = with_judge();
    assert_reward_refused(&place, &["vocabulary: ", "tokenizer.json"], |folder| {
        change_json(&folder.join("tokenizer.json"), |value| {
            value["model"]["vocab"]["red"] = json!(7);
            value["model"]["vocab"]["blue"] = json!(6);
        });
    });
    assert_reward_refused(&place, &["chat template: "], |folder| {
        std::fs::write(folder.join("chat_template.jinja"), "{{ messages }}").unwrap();
    });
    // The same tokenizer, but the policy has rows to spare and may choose one.
    let words = ["size of the vocabulary: the policy writes 24 tokens, the reward model reads 20"];
    let strange = place.path("strange");
    copy_folder(&place.path("base"), &strange);
    change_json(&strange.join("config.json"), |config| {
        config["vocab_size"] = json!(24);
    });
    change_weights(&strange, |tensors| {
        let name = "model.embed_tokens.weight";
        let longer = tensors[name].pad_with_zeros(0, 0, 4).unwrap();
        tensors.insert(name.to_owned(), longer);
    });
    assert_refused(&place, &words, |place| {
        let mut job = place.ppo(&place.path("judge/checkpoint"), "out");
        job.base = strange.clone();
        ppo::run(&job, &mut Kept::default())
    });
}

#[test]
fn settings_that_the_models_have_no_room_for_are_refused_by_name() {
    let place = with_judge();
    let judge = place.path("judge/checkpoint");
    assert_refused(&place, &["setting max_new_tokens: is 128"], |place| {
        let mut job = place.ppo(&judge, "out");
        job.config.max_new_tokens = 128;
        ppo::run(&job, &mut Kept::default())
    });
    let long = json!({"text": "red ".repeat(300)});
    let texts = tiny::write_lines(&place.path("long.jsonl"), [long]);
    assert_refused(&place, &["setting ptx_tokens: is 200"], |place| {
        let mut job = place.ppo(&judge, "out");
        job.texts = Some(texts.clone());
        job.config.ptx_tokens = 200;
        ppo::run(&job, &mut Kept::default())
    });
    assert_refused(&place, &["setting train_layers: is 3"], |place| {
        let mut job = place.sft("out");
        job.config.train_layers = Some(3);
        sft::run(&job, &mut Kept::default())
    });
}

/// Each weight is finite, but what is computed with them is not.
#[test]
fn a_model_whose_numbers_overflow_fails_its_first_check() {
    let place = with_judge();
    let strange = place.path("strange");
    let overflow = |folder: &Path| {
        copy_folder(folder, &strange);
        // Or other weights than those that were recorded would be seen first.
        let _ = std::fs::remove_file(strange.join("plackett.json"));
        change_weights(&strange, |tensors| {
            for name in [
                "model.layers.1.mlp.up_proj.weight",
                "model.layers.1.mlp.down_proj.weight",
            ] {
                let large = (&tensors[name] * 1e30).unwrap();
                tensors.insert(name.to_owned(), large);
            }
        });
    };
    let refused = |made: Result<Outcome>| {
        let said = made.unwrap_err().to_string();
        let words = "a check of the run failed: padding invariance";
        assert!(said.starts_with(words), "{said}");
    };
    overflow(&place.path("base"));
    let mut job = place.sft("sft");
    job.base = strange.clone();
    refused(sft::run(&job, &mut Kept::default()));
    let mut job = place.reward("reward");
    job.base = strange.clone();
    refused(reward::run(&job, &mut Kept::default()));
    let mut job = place.dpo("dpo");
    job.base = strange.clone();
    refused(dpo::run(&job, &mut Kept::default()));
    overflow(&place.path("judge/checkpoint"));
    let job = place.ppo(&strange, "ppo");
    refused(ppo::run(&job, &mut Kept::default()));
}

/// A folder from anywhere could otherwise have this machine's files copied into checkpoints.
#[test]
fn an_imported_folder_brings_only_its_own_files() {
    use std::os::unix::fs::symlink;

    let place = Place::new();
    let models = place.path("models");
    let cache = place.path("models--a--b");
    let snapshot = cache.join("snapshots/c0ffee");
    copy_folder(&place.path("base"), &snapshot);
    // As the Hugging Face cache keeps files.
    std::fs::create_dir(cache.join("blobs")).unwrap();
    std::fs::rename(snapshot.join("config.json"), cache.join("blobs/1")).unwrap();
    symlink("../../blobs/1", snapshot.join("config.json")).unwrap();
    let imported = trainer::hub::import(&snapshot, None, &models).unwrap();
    assert!(!imported.join("config.json").is_symlink());
    std::fs::remove_dir_all(&imported).unwrap();

    std::fs::write(place.path("secret"), "mine").unwrap();
    for target in [place.path("secret"), "../../../secret".into()] {
        let link = snapshot.join("LICENSE");
        symlink(target, &link).unwrap();
        let words = ["LICENSE", "is a link out of its folder"];
        assert_refused(&place, &words, |_| {
            trainer::hub::import(&snapshot, None, &models)
        });
        std::fs::remove_file(link).unwrap();
    }
}
