//! `plackett generate --best-of`, on the models of a whole loop.

use clap::Parser;
use serde_json::json;
use server::commands::generate::{self, GenerateCommand};
use server::store::runs::Run;

use crate::support::TestApp;

#[derive(clap::Parser)]
struct OnlyGenerate {
    #[command(flatten)]
    command: GenerateCommand,
}

/// `plackett generate --best-of` writes one completion of each prompt, with its score.
pub(crate) async fn assert_best_of_four(app: &TestApp, reward: &Run) {
    let folder = tempfile::tempdir().unwrap();
    let (prompts, out) = (folder.path().join("prompts"), folder.path().join("best"));
    let lines = ["say red", "name two", "count now"]
        .map(|prompt| format!("{}\n", json!({"id": prompt, "prompt": prompt})));
    std::fs::write(&prompts, lines.concat()).unwrap();
    let data = &app.state.data;
    let model = data.models_dir().join("tiny");
    let judge = format!("{}/checkpoint", reward.folder.as_ref().unwrap());
    let arguments = format!(
        "plackett --model {} --prompts {} --out {} --max-new-tokens 6",
        model.display(),
        prompts.display(),
        out.display()
    );
    let parse = |more: &str| {
        let arguments = arguments.split(' ').chain(more.split(' '));
        OnlyGenerate::try_parse_from(arguments).map(|parsed| parsed.command)
    };
    // Who chooses, and how many there are to choose from, belong together.
    assert!(parse("--best-of 4").is_err());
    assert!(parse(&format!("--reward {judge}")).is_err());
    let command = parse(&format!("--best-of 4 --reward {judge}")).unwrap();
    generate::run(data, command).await.unwrap();
    // Said before anything is drawn.
    for (place, words) in [
        (folder.path().to_owned(), "is a folder"),
        (folder.path().join("no/best"), "there is no folder"),
    ] {
        let mut command = parse(&format!("--best-of 4 --reward {judge}")).unwrap();
        command.out = place;
        let error = generate::run(data, command).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let written = std::fs::read_to_string(&out).unwrap();
    let written: Vec<serde_json::Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(written.len(), 3);
    for line in &written {
        let completions = line["completions"].as_array().unwrap();
        assert_eq!(completions.len(), 1);
        assert!(completions[0]["score"].is_f64() && completions[0]["gold"].is_null());
        assert_eq!(completions[0]["sampling"]["max_new_tokens"], 6);
    }
}
