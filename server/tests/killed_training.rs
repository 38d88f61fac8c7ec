//! `plackett train` killed without warning, at moments that nobody chose, goes on to the checkpoint
//! of a run that was left alone.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::tiny::{write_lines, write_model};

fn train(place: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plackett"));
    command
        .args(["train", "sft", "--preset", "tiny", "--set", "epochs=12"])
        .args(["--save-every", "0"])
        .arg("--data")
        .arg(place.join("demonstrations.jsonl"))
        .arg("--base")
        .arg(place.join("base"))
        .arg("--out")
        .arg(place.join(out))
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn weights(place: &Path, out: &str) -> Vec<u8> {
    std::fs::read(place.join(out).join("checkpoint/model.safetensors")).unwrap()
}

#[test]
fn a_run_killed_again_and_again_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    write_model(&place.join("base"));
    let demonstrations = (0..40).map(|n| {
        let word = crate::tiny::WORDS[n % crate::tiny::WORDS.len()];
        json!({"id": format!("d{n}"), "messages": [
            {"role": "user", "content": format!("say {word} please now {n}")},
            {"role": "assistant", "content": word},
        ]})
    });
    write_lines(&place.join("demonstrations.jsonl"), demonstrations);
    assert!(train(place, "straight", &[]).status().unwrap().success());

    let mut n_kills = 0;
    // Each life is a little longer, so that kills fall on steps, savepoints and the start alike.
    for life in 0_u64.. {
        let more: &[&str] = if life == 0 { &[] } else { &["--resume"] };
        let mut child = train(place, "killed", more).spawn().unwrap();
        for _ in 0..(20 + 9 * life) {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(7));
        }
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            n_kills += 1;
        }
        let status = child.wait().unwrap();
        // A kill may fall between the checkpoint and the end of the program; the next life then ends
        // well without training.
        if status.success() {
            break;
        }
        assert_eq!(status.code(), None, "it ended by itself: {status}");
        assert!(life < 100, "the run makes no progress");
    }
    assert!(n_kills > 1, "the run was killed {n_kills} times");
    assert_eq!(weights(place, "killed"), weights(place, "straight"));
    assert_taken_as_it_is(place);
}

/// What a kill leaves after the checkpoint and before the last word: whoever goes on trains nothing
/// again, and takes no checkpoint for another run's.
fn assert_taken_as_it_is(place: &Path) {
    let metrics = place.join("killed/metrics.jsonl");
    let told = std::fs::read(&metrics).unwrap();
    let savepoints = place.join("killed/savepoints");
    std::fs::create_dir(&savepoints).unwrap();
    let again = train(place, "killed", &["--resume"])
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(again.status.success(), "{said}");
    assert!(said.contains("its checkpoint is taken as it is"), "{said}");
    assert!(said.contains("\nheld_out_loss "), "no summary: {said}");
    assert!(!said.contains("phase training") && !savepoints.exists());
    assert_eq!(std::fs::read(&metrics).unwrap(), told);

    let other = train(place, "killed", &["--resume", "--set", "seed=5"])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(!other.status.success());
    assert!(said.contains("other settings, data or models"), "{said}");
    let weights = place.join("killed/checkpoint/model.safetensors");
    let mut damaged = std::fs::read(&weights).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, damaged).unwrap();
    let torn = train(place, "killed", &["--resume"])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(torn.stderr).unwrap();
    assert!(
        !torn.status.success() && said.contains("is damaged"),
        "{said}"
    );
}
