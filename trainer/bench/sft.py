"""A step of supervised fine-tuning in plain PyTorch: eager, SDPA, fused AdamW, f32.

    python sft.py MODEL [--rows 4] [--tokens 256] [--set vocab_size=4096]

With --set the model is drawn, of MODEL's shape but for what is set.
"""

import torch

import peer


def main():
    parser = peer.arguments(__doc__, rows=4, tokens=256)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER")
    options = peer.begin(parser)
    changed = {name: int(value) for name, value in (word.split("=") for word in options.set)}
    model = peer.language_model(options.model, changed).train()
    adamw = peer.optimiser(model)
    ids = torch.tensor(peer.text_rows(options.rows, options.tokens))

    def step():
        # The model moves the labels by one itself: every token but the first is learnt.
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        peer.update(model, adamw)

    seconds = peer.timed(step, options.repeats)
    peer.report(seconds, ids.numel())


if __name__ == "__main__":
    main()
