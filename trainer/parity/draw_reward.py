"""Draws two trainings of a reward model beside each other: ours and PyTorch's.

    python draw_reward.py RUN PYTORCH.json PICTURE.png

RUN is the folder of our run, PYTORCH.json what reward_pytorch.py wrote. Prints the table too.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    run, theirs, picture = sys.argv[1:]
    theirs = json.loads(Path(theirs).read_text())
    lines = (json.loads(line) for line in (Path(run) / "metrics.jsonl").open())
    losses, accuracies = [], []
    for line in lines:
        if "train/loss" in line:
            losses.append(line["train/loss"])
        if "held_out/accuracy" in line:
            accuracies.append(line)
    figure, (curves, bars) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    curves.plot(range(1, len(losses) + 1), losses, color="#1b6ca8", lw=2.5, label="Plackett")
    curves.plot(
        range(1, len(theirs["losses"]) + 1),
        theirs["losses"],
        color="#c2410c",
        lw=1.2,
        ls="--",
        label="PyTorch",
    )
    curves.set(xlabel="step", ylabel="training loss", title="The same rankings in the same order")
    curves.legend(frameon=False)
    last = accuracies[-1]
    ours = {name: last[f"held_out/accuracy{part}"] for name, part in NAMES}
    rows = [
        ("Plackett", ours, "#1b6ca8"),
        ("PyTorch", theirs["held_out"], "#c2410c"),
        ("length only", theirs["length_only"], "#6b7280"),
        ("before training", theirs["before"], "#9ca3af"),
    ]
    for place, (name, found, colour) in enumerate(rows):
        value, low, high = (found[part] for part in ("value", "low", "high"))
        bars.errorbar(
            value,
            -place,
            xerr=[[value - low], [high - value]],
            fmt="o",
            color=colour,
            capsize=4,
            lw=2,
        )
        print(f"{name}: {value:.3f} [{low:.3f}, {high:.3f}]")
    bars.axvline(0.5, color="#d1d5db", zorder=0)
    bars.set_yticks([-place for place in range(len(rows))], [name for name, *_ in rows])
    bars.set(xlabel="held-out pairs in the right order", title="95 % intervals, by prompt")
    for axes in (curves, bars):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=110)
    both = list(zip(losses, theirs["losses"], strict=True))
    largest = max(abs(a - b) for a, b in both)
    print(f"{len(both)} steps, largest difference of the losses {largest:.2e}")


NAMES = [("value", ""), ("low", "_low"), ("high", "_high")]

if __name__ == "__main__":
    main()
