"""What `make bench` measures: each case, and the programs that do the same work beside ours.

The sizes here are those of `plackett bench`. Both sides say how many tokens a step has, and the
document gives no ratio where these differ.
"""

from dataclasses import dataclass

OURS = "Plackett"

PYTORCH = "PyTorch"
TRANSFORMERS = "transformers"
TRL = "TRL"
KWISE = "PyTorch, K-wise"

PROMPTS = 4
COMPLETION_TOKENS = 128


@dataclass(frozen=True)
class Peer:
    """A program beside ours: a script of this folder with its arguments."""

    name: str
    script: str
    arguments: tuple = ()


@dataclass(frozen=True)
class Case:
    """One kind of step. `name` is also the case's name in `plackett bench`."""

    name: str
    says: str
    peers: tuple = ()
    # Repeats in one process, after one that is not counted.
    repeats: int = 1
    # Measured once, for the pictures alone.
    growth: bool = False


def n_pairs(completions):
    """Pairs of all rankings of a step."""
    return PROMPTS * completions * (completions - 1) // 2


def flags(**sizes):
    """Command-line arguments, named as the sizes are."""
    return tuple(
        word for name, size in sizes.items() for word in (f"--{name.replace('_', '-')}", str(size))
    )


def kwise(completions, prompt_tokens):
    """All completions of a prompt pass once, as a user of plain PyTorch would write it."""
    return Peer(
        KWISE,
        "reward_kwise.py",
        flags(
            prompts=PROMPTS,
            completions=completions,
            prompt_tokens=prompt_tokens,
            completion_tokens=COMPLETION_TOKENS,
        ),
    )


def trl_pairs(completions, prompt_tokens, measured, micro):
    """TRL's RewardTrainer over all pairs of a step, or over `measured` of them."""
    return Peer(
        TRL,
        "reward_trl.py",
        kwise(completions, prompt_tokens).arguments + flags(pairs=measured, micro=micro),
    )


def reward(completions, prompt_tokens, measured, micro):
    """A step of reward training, beside both peers."""
    return Case(
        f"reward_k{completions}_prompt{prompt_tokens}",
        f"reward step, {PROMPTS} rankings of {completions}, prompts of {prompt_tokens} tokens, "
        f"completions of {COMPLETION_TOKENS}",
        (
            trl_pairs(completions, prompt_tokens, measured, micro),
            kwise(completions, prompt_tokens),
        ),
    )


# A whole step with K = 9 takes TRL minutes, so that a part of its pairs is measured. A micro-batch
# is about 4,000 tokens, what fits in 12 GB.
CASES = [
    Case(
        "sft_step",
        "SFT step, 4 rows of 256 tokens, all but the first learnt",
        (Peer(PYTORCH, "sft.py", flags(rows=4, tokens=256)),),
        repeats=3,
    ),
    reward(5, 64, measured=40, micro=10),
    reward(9, 64, measured=24, micro=12),
    reward(5, 256, measured=40, micro=5),
    reward(9, 256, measured=24, micro=6),
    Case(
        "generate_8_prompts",
        "8 prompts of 64 tokens, 64 new tokens for each",
        (Peer(TRANSFORMERS, "generate.py", flags(prompts=8, samples=1, prompt_tokens=64, new=64)),),
        repeats=3,
    ),
    Case(
        "generate_8_samples",
        "1 prompt of 256 tokens, 8 samples of 64 new tokens",
        (
            Peer(
                TRANSFORMERS, "generate.py", flags(prompts=1, samples=8, prompt_tokens=256, new=64)
            ),
        ),
        repeats=3,
    ),
    Case(
        "ppo_step",
        "PPO step, 8 prompts of 64 tokens, responses of 64, one epoch, one minibatch",
        (Peer(TRL, "ppo_trl.py", flags(batch=8, prompt_tokens=64, response_tokens=64)),),
    ),
    Case("ppo_lora", "the same PPO step with LoRA adapters on one model"),
]

# Points of the growth curves.
COMPLETIONS = (2, 3, 5, 7, 9)
PROMPT_TOKENS = (64, 128, 256, 512)
VOCABULARIES = (4096, 16384, 49152, 131072)

# SmolLM2-135M's own vocabulary and shape, which the cases above have.
OWN_VOCABULARY = 49152
OWN_WIDTH = 576


@dataclass(frozen=True)
class Shape:
    """A model of SmolLM2's proportions: heads of 64, three of queries for each of keys."""

    width: int
    layers: int
    kv_heads: int
    inner: int

    def settings(self):
        """What differs from the model's own config.json."""
        return {
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 3 * self.kv_heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.inner,
        }

    def parameters(self):
        """Numbers that are learnt; the embedding is the head too."""
        attention = 2 * self.width**2 + 2 * self.width * 64 * self.kv_heads
        layer = attention + 3 * self.width * self.inner + 2 * self.width
        return OWN_VOCABULARY * self.width + self.layers * layer + self.width


SHAPES = (
    Shape(width=192, layers=10, kv_heads=1, inner=512),
    Shape(width=384, layers=20, kv_heads=2, inner=1024),
    Shape(width=576, layers=30, kv_heads=3, inner=1536),
    Shape(width=960, layers=32, kv_heads=5, inner=2560),
)


@dataclass(frozen=True)
class Curve:
    """A figure of one case after another as something grows."""

    title: str
    grows: str
    figure: str
    peer: str
    # What grows, and the case.
    points: tuple
    is_logarithmic: bool = False


def growing_reward(completions, prompt_tokens):
    """A step of reward training beside plain PyTorch alone: TRL's pairs would take hours."""
    return Case(
        f"reward_k{completions}_prompt{prompt_tokens}",
        f"reward step, {PROMPTS} rankings of {completions}, prompts of {prompt_tokens} tokens",
        (kwise(completions, prompt_tokens),),
        growth=True,
    )


def growing_sft(name, says, settings):
    """An SFT step of a drawn model whose config.json differs in `settings`."""
    changed = tuple(word for pair in settings.items() for word in ("--set", "{}={}".format(*pair)))
    peer = Peer(PYTORCH, "sft.py", flags(rows=4, tokens=256) + changed)
    return Case(name, f"SFT step, 4 rows of 256 tokens, {says}", (peer,), growth=True)


def growing_vocabulary(size):
    """SmolLM2's shape with another vocabulary; with its own it is the case above."""
    if size == OWN_VOCABULARY:
        return CASES[0]
    return growing_sft(f"sft_vocab{size}", f"a vocabulary of {size}", {"vocab_size": size})


def growing_shape(shape):
    """Another size of model; SmolLM2's own is the case above."""
    if shape.width == OWN_WIDTH:
        return CASES[0]
    says = f"{shape.layers} layers of width {shape.width}"
    return growing_sft(f"sft_width{shape.width}", says, shape.settings())


CURVES = [
    Curve(
        "A reward step as rankings grow",
        "completions of each of 4 prompts of 64 tokens",
        "seconds",
        KWISE,
        tuple((k, growing_reward(k, 64)) for k in COMPLETIONS),
    ),
    Curve(
        "A reward step as prompts grow",
        "tokens of each of 4 prompts with 5 completions",
        "seconds",
        KWISE,
        tuple((tokens, growing_reward(5, tokens)) for tokens in PROMPT_TOKENS),
    ),
    Curve(
        "An SFT step as the vocabulary grows",
        "tokens in the vocabulary",
        "tokens/s",
        PYTORCH,
        tuple((size, growing_vocabulary(size)) for size in VOCABULARIES),
        is_logarithmic=True,
    ),
    Curve(
        "An SFT step as the model grows",
        "million parameters",
        "tokens/s",
        PYTORCH,
        tuple((round(shape.parameters() / 1e6), growing_shape(shape)) for shape in SHAPES),
        is_logarithmic=True,
    ),
]


def growth():
    """The points of the curves that are not measured above, each once."""
    above = {case.name for case in CASES}
    points = (case for curve in CURVES for _, case in curve.points)
    return list({case.name: case for case in points if case.name not in above}.values())


ALL = CASES + growth()
