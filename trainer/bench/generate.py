"""Generation by transformers: plain sampling at temperature 1, with its cache, f32.

python generate.py MODEL [--prompts 8] [--samples 1] [--prompt-tokens 64] [--new 64]
"""

import torch

import peer

# The rows that `plackett bench` draws its prompts from, again from the first when they are used up.
DRAWN_ROWS = 4


def main():
    options = peer.begin(peer.arguments(__doc__, prompts=8, samples=1, prompt_tokens=64, new=64))
    model = peer.language_model(options.model).eval()
    # No token ends a completion, so that every row makes all its tokens.
    model.generation_config.eos_token_id = None
    drawn = peer.text_rows(DRAWN_ROWS, options.prompt_tokens)
    ids = torch.tensor([drawn[row % DRAWN_ROWS] for row in range(options.prompts)])

    def step():
        with torch.inference_mode():
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                num_return_sequences=options.samples,
                max_new_tokens=options.new,
                pad_token_id=0,
            )
        length = options.prompt_tokens + options.new
        assert made.shape == (options.prompts * options.samples, length), made.shape

    seconds = peer.timed(step, options.repeats)
    peer.report(seconds, options.prompts * options.samples * options.new)


if __name__ == "__main__":
    main()
