"""What we aim at beside the peers, and whether it was met."""

from dataclasses import dataclass

from cases import KWISE, OURS, PYTORCH, TRANSFORMERS, TRL
from figures import disturbed, extrapolated, median, same_work, show


@dataclass(frozen=True)
class Target:
    """A bound on the ratio of ours to theirs, or of theirs to ours."""

    says: str
    case: str
    peer: str
    figure: str = "seconds"
    # Their figure is at least so many times ours.
    at_least: float | None = None
    # Our figure is at most such a part of theirs.
    at_most: float | None = None
    # The peer's case, where it is another.
    peer_case: str | None = None

    def ratios(self, lines):
        """Of each run the ratio that is bounded."""
        ours, theirs = self.sides()
        if self.at_most is not None:
            return lines.ratios(self.figure, ours, theirs)
        return lines.ratios(self.figure, theirs, ours)

    def sides(self):
        return (self.case, OURS), (self.peer_case or self.case, self.peer)

    def is_met(self, ratio):
        return ratio <= self.at_most if self.at_most is not None else ratio >= self.at_least


def faster(says, case, peer, times):
    """A target of time."""
    return Target(f"{says}: at least {times:g} times as fast as {peer}", case, peer, at_least=times)


def smaller(says, case, peer, part, **more):
    """A target of memory."""
    return Target(
        f"{says}: peak memory at most {part:g} of {more.pop('whose', peer + chr(39) + 's')}",
        case,
        peer,
        figure="peak_bytes",
        at_most=part,
        **more,
    )


TARGETS = [
    Target("SFT step: at most PyTorch's time", "sft_step", PYTORCH, at_most=1.0),
    smaller("SFT step", "sft_step", PYTORCH, 0.7),
    faster("Reward step, K = 5, prompts of 64 tokens", "reward_k5_prompt64", TRL, 5),
    faster("Reward step, K = 9, prompts of 64 tokens", "reward_k9_prompt64", TRL, 10),
    faster("Reward step, K = 5, prompts of 256 tokens", "reward_k5_prompt256", TRL, 8),
    faster("Reward step, K = 9, prompts of 256 tokens", "reward_k9_prompt256", TRL, 18),
    faster("Reward step, K = 5, prompts of 256 tokens", "reward_k5_prompt256", KWISE, 1.8),
    faster("Generation, 8 prompts", "generate_8_prompts", TRANSFORMERS, 1.3),
    faster("Generation, 8 samples of one prompt", "generate_8_samples", TRANSFORMERS, 2),
    faster("PPO step", "ppo_step", TRL, 1.5),
    smaller("PPO step", "ppo_step", TRL, 0.6),
    smaller(
        "PPO step with LoRA",
        "ppo_lora",
        TRL,
        0.35,
        peer_case="ppo_step",
        whose="four separate models (TRL's)",
    ),
]


def write_up(lines):
    """The table of targets."""
    head = "### Targets\n\n| target | measured (medians) | |\n|---|---|---|\n"
    return head + "".join(row(lines, target) for target in TARGETS)


def row(lines, target):
    ours, theirs = target.sides()
    ratios = target.ratios(lines)
    if not ratios:
        return f"| {target.says} | not measured | |\n"
    if not same_work(lines, ours, theirs):
        return f"| {target.says} | not the same work | |\n"
    notes = {extrapolated(line) for line in lines.of(*theirs).values()}
    notes.add(disturbed(lines, ours, theirs))
    shown = ", ".join([show(ratios, 2), *sorted(notes - {""})])
    said = "met" if target.is_met(median(ratios)) else "**missed**"
    return f"| {target.says} | {shown} | {said} |\n"
