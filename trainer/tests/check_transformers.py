"""Loads what the trainer wrote with transformers and compares numbers.

    python check_transformers.py NUMBERS.json

NUMBERS.json names a `policy` and a `reward` folder (either may be missing) and `rows`: messages,
the token ids of the prompt and of the completion, and what the trainer computed on them: the
completion's `log_prob`, its `score`, and the `logits` of every position, which may be null. Ends with an error at the first difference.
tests/transformers.rs writes the file and runs this.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

TOLERANCE = 1e-4


def load(kind, folder):
    model, report = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[problem], f"{folder}: {problem}: {report[problem]}"
    return model.eval()


def close(what, found, wanted):
    difference = abs(found - wanted)
    assert difference < TOLERANCE, f"{what}: {found} instead of {wanted}"
    return difference


def check_policy(folder, rows):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), load(AutoModelForCausalLM, folder)
    assert len(tokenizer) <= model.config.vocab_size, len(tokenizer)
    worst, worst_logit = 0.0, 0.0
    for row in rows:
        prompt = tokenizer.apply_chat_template(
            row["messages"], add_generation_prompt=True, return_dict=False
        )
        completion = tokenizer.encode(row["text"], add_special_tokens=False)
        assert prompt == row["prompt_ids"], f"{row['messages']}: {prompt}"
        assert completion + [tokenizer.eos_token_id] == row["completion_ids"], completion
        ids = torch.tensor([prompt + row["completion_ids"]])
        logits = model(input_ids=ids).logits[0]
        if row["logits"] is not None:
            apart = (logits - torch.tensor(row["logits"])).abs().max().item()
            worst_logit = max(worst_logit, close("logits", apart, 0.0))
        log_probs = torch.log_softmax(logits[:-1], dim=-1)
        chosen = log_probs.gather(1, ids[0, 1:].unsqueeze(1))[len(prompt) - 1 :]
        mean = chosen.mean().item()
        worst = max(worst, close("mean log-probability", mean, row["log_prob"]))
    print(
        f"policy: {len(rows)} rows, largest differences {worst:.1e} of log-probabilities, "
        f"{worst_logit:.1e} of logits"
    )


def check_reward(folder, rows):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load(AutoModelForSequenceClassification, folder)
    assert model.config.num_labels == 1
    ids = [row["prompt_ids"] + row["completion_ids"] for row in rows]
    # All rows in one batch, padded with the folder's own padding token.
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt", padding_side="right")
    scores = model(**batch).logits.squeeze(1) - model.config.reward_bias
    worst = max(
        close("score", score.item(), row["score"]) for score, row in zip(scores, rows, strict=True)
    )
    print(f"reward: {len(rows)} rows, largest difference {worst:.1e}")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        numbers = json.load(file)
    with torch.no_grad():
        if "policy" in numbers:
            check_policy(numbers["policy"], numbers["rows"])
        if "reward" in numbers:
            check_reward(numbers["reward"], numbers["rows"])


if __name__ == "__main__":
    main()
