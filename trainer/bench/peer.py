"""What the peers share: arguments, the model, the tokens, the clock, and the line they print.

Each peer is a process of its own, so that its peak memory is its own. It does the work once without
counting it, as `plackett bench` does, then as often as told, and prints one JSON line.
"""

import argparse
import json
import time
from importlib.metadata import PackageNotFoundError, version

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

SEED = 1
PACKAGES = ("torch", "transformers", "trl", "numpy")


def arguments(description, **sizes):
    """The arguments of every peer, and those of this one, which are whole numbers."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("model", help="a folder that transformers loads")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    for name, default in sizes.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    return parser


def begin(parser):
    """Reads the arguments; fixes threads and the seed."""
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    transformers.logging.set_verbosity_error()
    return options


def language_model(folder, changed=None):
    """The language model in f32. With `changed` settings a drawn one of that shape."""
    if not changed:
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa"
        )
    config = AutoConfig.from_pretrained(folder)
    for name, value in changed.items():
        setattr(config, name, value)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")


def reward_model(folder):
    """The same network with a head of one score, which is drawn."""
    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, dtype=torch.float32, attn_implementation="sdpa"
    )


def optimiser(model):
    """AdamW in one pass over the weights, the fastest that torch has on a CPU."""
    return torch.optim.AdamW(model.parameters(), lr=1e-6, betas=(0.9, 0.95), fused=True)


def update(model, adamw):
    """What follows the backward pass in every trainer: clip, change the weights, forget."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adamw.step()
    adamw.zero_grad()


def text_rows(rows, tokens):
    """The rows of tokens of `plackett bench` for SFT and generation."""
    return [[(row * 31 + t * 7) % 97 + 100 for t in range(tokens)] for row in range(rows)]


def ranking(index, completions, prompt_tokens, completion_tokens, vocabulary):
    """The rows of one ranking, best first: the tokens of `plackett bench`, none of them padding."""

    def token(place):
        return place % (vocabulary - 3) + 3

    prompt = [token(index * 31 + t * 7) for t in range(prompt_tokens)]
    return [
        prompt + [token(index * 17 + k * 5 + t * 11 + 1) for t in range(completion_tokens)]
        for k in range(completions)
    ]


def rankings(options, vocabulary):
    """All rankings of a step."""
    return [
        ranking(
            index, options.completions, options.prompt_tokens, options.completion_tokens, vocabulary
        )
        for index in range(options.prompts)
    ]


def different_tokens(options):
    """Tokens of a step, each prompt counted once: what `plackett bench` counts."""
    completions = options.completions * options.completion_tokens
    return options.prompts * (options.prompt_tokens + completions)


def timed(step, repeats):
    """Seconds of each repeat, after one that is not counted."""
    seconds = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def versions():
    """Versions of the packages that are there, as they were imported."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def report(seconds, tokens, **more):
    """Prints the line that the driver reads: the last of a peer's output."""
    line = {"seconds": seconds, "tokens": tokens, "versions": versions(), **more}
    print(json.dumps(line), flush=True)
