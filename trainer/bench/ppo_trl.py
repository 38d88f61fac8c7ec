"""A step of PPO by the last TRL that has it (1.12): policy, reference, reward and value model.

    python ppo_trl.py MODEL [--batch 8] [--prompt-tokens 64] [--response-tokens 64]

One epoch over one minibatch, beta 0.02, as InstructGPT. Its peak memory is that of four separate
models, two of which learn.
"""

import tempfile
import time

from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer

import peer


class Steps(TrainerCallback):
    """Seconds from the end of one step to the end of the next."""

    def __init__(self):
        self.found = []

    def on_train_begin(self, *arguments, **named):
        self.last = time.perf_counter()

    def on_step_end(self, *arguments, **named):
        now = time.perf_counter()
        self.found.append(now - self.last)
        self.last = now


def settings(options, folder):
    """Full f32 on the CPU without checkpointing, and nothing sampled to look at."""
    return PPOConfig(
        output_dir=folder,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=1,
        num_mini_batches=1,
        num_ppo_epochs=1,
        total_episodes=options.batch * (1 + options.repeats),
        response_length=options.response_tokens,
        local_rollout_forward_batch_size=options.batch,
        temperature=1.0,
        kl_coef=0.02,
        learning_rate=1e-6,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        num_sample_generations=0,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=peer.SEED,
    )


def main():
    sizes = dict(batch=8, prompt_tokens=64, response_tokens=64)
    options = peer.begin(peer.arguments(__doc__, **sizes))
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    # A response ends at its first padding token, so that padding must not be EOS.
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    rows = peer.text_rows(options.batch * (1 + options.repeats), options.prompt_tokens)
    prompts = Dataset.from_list([{"input_ids": row} for row in rows])
    steps = Steps()
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=settings(options, folder),
            processing_class=tokenizer,
            model=peer.language_model(options.model),
            ref_model=peer.language_model(options.model),
            reward_model=peer.reward_model(options.model),
            value_model=peer.reward_model(options.model),
            train_dataset=prompts,
            # Asked for, though nothing is sampled from it.
            eval_dataset=prompts,
            callbacks=[steps],
        )
        trainer.train()
    # Nothing ends a response early.
    peer.report(steps.found[1:], options.batch * options.response_tokens)


if __name__ == "__main__":
    main()
