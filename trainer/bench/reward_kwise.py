"""A step of K-wise reward training in plain PyTorch.

    python reward_kwise.py MODEL [--prompts 4] [--completions 5] [--prompt-tokens 64]

Every completion passes once, the prompt before it; those of one prompt share a batch and a backward
pass, over the mean of all their pairs. Rows are equally long here, so that no padding costs time.
"""

import torch
from torch.nn.functional import logsigmoid

import peer


def loss(scores):
    """The mean over all pairs of one ranking, best first."""
    better, worse = torch.triu_indices(len(scores), len(scores), offset=1)
    return -logsigmoid(scores[better] - scores[worse]).mean()


def main():
    sizes = dict(prompts=4, completions=5, prompt_tokens=64, completion_tokens=128)
    options = peer.begin(peer.arguments(__doc__, **sizes))
    model = peer.reward_model(options.model).train()
    adamw = peer.optimiser(model)
    groups = peer.rankings(options, model.config.vocab_size)
    batches = [torch.tensor(rows) for rows in groups]

    def step():
        for ids in batches:
            scores = model(input_ids=ids, use_cache=False).logits.squeeze(1)
            (loss(scores) / len(batches)).backward()
        peer.update(model, adamw)

    seconds = peer.timed(step, options.repeats)
    passed = sum(ids.numel() for ids in batches)
    peer.report(seconds, peer.different_tokens(options), tokens_passed=passed)


if __name__ == "__main__":
    main()
