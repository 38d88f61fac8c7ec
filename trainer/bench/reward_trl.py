"""A step of TRL's RewardTrainer over all pairs of a step's rankings.

    python reward_trl.py MODEL [--prompts 4] [--completions 5] [--pairs 40] [--micro 10]

With fewer --pairs than the rankings have, a step takes so many, and what the forward and backward
passes of its micro-batches took is scaled to all pairs; the rest of the step is counted once. The
line says so.
"""

import itertools
import tempfile
import time

from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import RewardConfig, RewardTrainer

import peer


class TimedTrainer(RewardTrainer):
    """Adds up what micro-batches take, so that a part of them can stand for all."""

    passes = 0.0

    def training_step(self, *arguments, **named):
        began = time.perf_counter()
        loss = super().training_step(*arguments, **named)
        self.passes += time.perf_counter() - began
        return loss


class Steps(TrainerCallback):
    """Seconds of each step, split into its passes and the rest."""

    def __init__(self):
        self.trainer = None
        self.found = []

    def on_step_begin(self, *arguments, **named):
        self.began = time.perf_counter()
        self.trainer.passes = 0.0

    def on_step_end(self, *arguments, **named):
        passes = self.trainer.passes
        self.found.append((passes, time.perf_counter() - self.began - passes))


def all_pairs(groups):
    """Each completion with each that is worse, as RewardTrainer takes them."""
    return [
        {"chosen_ids": better, "rejected_ids": worse}
        for rows in groups
        for better, worse in itertools.combinations(rows, 2)
    ]


def settings(options, folder):
    """Full f32 on the CPU without checkpointing: the fastest that TRL has here."""
    assert options.pairs % options.micro == 0, "a step must be whole micro-batches"
    return RewardConfig(
        output_dir=folder,
        per_device_train_batch_size=options.micro,
        gradient_accumulation_steps=options.pairs // options.micro,
        max_steps=1 + options.repeats,
        learning_rate=1e-6,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=peer.SEED,
    )


def main():
    sizes = dict(prompts=4, completions=5, prompt_tokens=64, completion_tokens=128)
    options = peer.begin(peer.arguments(__doc__, **sizes, pairs=40, micro=10))
    model = peer.reward_model(options.model)
    pairs = all_pairs(peer.rankings(options, model.config.vocab_size))
    rows = pairs[: options.pairs] * (1 + options.repeats)
    steps = Steps()
    with tempfile.TemporaryDirectory() as folder:
        steps.trainer = TimedTrainer(
            model=model,
            args=settings(options, folder),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(options.model),
            callbacks=[steps],
        )
        steps.trainer.train()
    share = len(pairs) / options.pairs
    seconds = [passes * share + rest for passes, rest in steps.found[1:]]
    more = {"tokens_passed": 2 * len(pairs) * (options.prompt_tokens + options.completion_tokens)}
    if options.pairs < len(pairs):
        more["extrapolated"] = {"pairs": options.pairs, "of": len(pairs)}
    peer.report(seconds, peer.different_tokens(options), **more)


if __name__ == "__main__":
    main()
