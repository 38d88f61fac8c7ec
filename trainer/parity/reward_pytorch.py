"""Trains a reward model in plain PyTorch as a run of ours was trained, to compare the two.

    python reward_pytorch.py RUN RANKINGS.jsonl START OUT.json

RUN is the folder of our run, whose config.json holds every setting; it must have `shuffle` off, so
that both take the rankings in the order of the file. START is a checkpoint of ours that has not
learnt (a run at learning rate 0), so that both begin with the same head. The network is
transformers' own, the loss is written from the paper (section 3.5), the optimiser is torch's.
"""

import json
import math
import sys
import time
from pathlib import Path

import numpy
import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MICRO_ROWS = 8


def read_rankings(path, tokenizer):
    """Each ranking as its rows of tokens, best first, and the lengths of its completions."""
    sides = {"train": [], "validation": []}
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            prompt = tokenizer.apply_chat_template(
                record["prompt"], add_generation_prompt=True, return_dict=False
            )
            completions = sorted(record["completions"], key=lambda item: item["rank"])
            texts = [tokenizer.encode(c["text"], add_special_tokens=False) for c in completions]
            sides[record["split"]].append(
                {
                    "rows": [prompt + text + [tokenizer.eos_token_id] for text in texts],
                    "lengths": [len(text) for text in texts],
                }
            )
    return sides["train"], sides["validation"]


def scores(model, rows):
    """The score at each row's last token."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(rows)), [len(row) - 1 for row in rows]]
    return model.score(last).squeeze(1)


def accuracy(right):
    """Share of pairs in the right order with a 95 % interval, by resampling prompts."""
    right, generator = numpy.array(right), numpy.random.default_rng(1)
    means = generator.choice(right, (2000, len(right))).mean(axis=1)
    low, high = numpy.percentile(means, [2.5, 97.5])
    return {"value": float(right.mean()), "low": float(low), "high": float(high), "n": len(right)}


def in_order(better, worse):
    return 1.0 if better > worse else 0.5 if better == worse else 0.0


def measure(model, rankings):
    model.eval()
    right = []
    with torch.no_grad():
        for ranking in rankings:
            better, worse = scores(model, ranking["rows"]).tolist()
            right.append(in_order(better, worse))
    return right


def by_length(train, held_out):
    """The better of `longer` and `shorter`, chosen on the training pairs."""
    sign = max((1, -1), key=lambda s: sum(in_order(*(s * n for n in r["lengths"])) for r in train))
    return [in_order(*(sign * n for n in ranking["lengths"])) for ranking in held_out]


def freeze_lower_layers(model, n_trained):
    if n_trained is None:
        return
    layers = model.model.layers
    for part in [model.model.embed_tokens, *layers[: len(layers) - n_trained]]:
        part.requires_grad_(False)


def main():
    run, data, start, out = sys.argv[1:]
    config = json.loads((Path(run) / "config.json").read_text())
    assert config["shuffle"] is False, "the run was shuffled"
    loss_settings = config["loss"]
    assert loss_settings["model"] == "pairs" and not any(
        loss_settings.get(name) for name in ("label_noise", "rating_margin", "centring")
    ), loss_settings
    optimiser_settings, batch = config["optimiser"], config["batch_prompts"]
    torch.manual_seed(config["seed"])
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = AutoModelForSequenceClassification.from_pretrained(start, dtype=torch.float32)
    freeze_lower_layers(model, config["train_layers"])
    train, held_out = read_rankings(data, tokenizer)
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert optimiser_settings["weight_decay"] == 0.0
    optimiser = torch.optim.AdamW(
        learnt,
        lr=optimiser_settings["learning_rate"],
        betas=(optimiser_settings["beta1"], optimiser_settings["beta2"]),
        eps=optimiser_settings["epsilon"],
        weight_decay=0.0,
    )
    schedule, total = config["schedule"], math.ceil(len(train) / batch) * config["epochs"]
    assert schedule["kind"] == "cosine", schedule
    losses, began = [], time.time()
    before = accuracy(measure(model, held_out))
    for _ in range(config["epochs"]):
        for first in range(0, len(train), batch):
            group = train[first : first + batch]
            loss = 0.0
            for micro in range(0, len(group), MICRO_ROWS // 2):
                part = group[micro : micro + MICRO_ROWS // 2]
                pairs = scores(model, sum((r["rows"] for r in part), [])).view(-1, 2)
                own = -logsigmoid(pairs[:, 0] - pairs[:, 1]).sum() / len(group)
                own.backward()
                loss += own.item()
            torch.nn.utils.clip_grad_norm_(learnt, optimiser_settings["max_grad_norm"])
            progress, floor = len(losses) / total, schedule["floor"]
            factor = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
            for settings in optimiser.param_groups:
                settings["lr"] = optimiser_settings["learning_rate"] * factor
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss)
            print(f"step {len(losses)} of {total} loss {loss:.5f}", flush=True)
    result = {
        "versions": {"torch": torch.__version__},
        "seconds": time.time() - began,
        "n_train": len(train),
        "losses": losses,
        "before": before,
        "held_out": accuracy(measure(model, held_out)),
        "length_only": accuracy(by_length(train, held_out)),
    }
    Path(out).write_text(json.dumps(result, indent=1))
    print({name: result[name] for name in ("before", "held_out", "length_only")})


if __name__ == "__main__":
    main()
