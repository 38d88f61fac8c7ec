"""Draws the runs that trainer/examples/gold.rs made.

    python draw_gold.py OUT PICTURE.png

For every weight of the KL term (rows of the table) and of the pretraining term: proxy reward, gold
reward, KL and held-out text loss over steps, the mean of the seeds as a line and their range as a
band; and gold and proxy against the square root of KL. Prints the table too: means of the last five
iterations, and the last loss on texts.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy

COLOURS = {0.0: "#c2410c", 0.02: "#1b6ca8", 0.1: "#15803d"}
FIGURES = [
    ("objective/score", "proxy reward"),
    ("objective/gold", "gold reward"),
    ("objective/kl", "KL to the SFT model, nats a sequence"),
    ("objective/text_loss_held_out", "held-out text loss, nats a token"),
]


def read(out):
    """{(beta, ptx): {figure: [a row of (step, value) for each seed]}}"""
    runs = defaultdict(lambda: defaultdict(list))
    for folder in sorted(Path(out).glob("beta*-ptx*-seed*")):
        beta, ptx, _ = re.fullmatch(r"beta(.*)-ptx(.*)-seed(.*)", folder.name).groups()
        curves = defaultdict(list)
        for line in (folder / "metrics.jsonl").open():
            line = json.loads(line)
            for name, _ in FIGURES:
                if name in line:
                    curves[name].append((line["step"], line[name]))
        for name, curve in curves.items():
            runs[float(beta), float(ptx)][name].append(curve)
    return runs


def smooth(values, width=5):
    """Mean over neighbours, fewer at the ends: batches of 32 are noisy."""
    half = width // 2
    return numpy.array(
        [values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))]
    )


def main():
    out, picture = sys.argv[1:]
    runs = read(out)
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    places = [axes[0, 0], axes[0, 1], axes[0, 2], axes[1, 0]]
    for (beta, ptx), curves in sorted(runs.items()):
        style = dict(color=COLOURS[beta], ls="-" if ptx else "--", lw=1.8)
        label = f"beta {beta:g}, ptx {ptx:g}"
        for (name, title), place in zip(FIGURES, places):
            steps = [step for step, _ in curves[name][0]]
            width = 1 if name == "objective/text_loss_held_out" else 5
            values = numpy.array(
                [smooth(numpy.array([v for _, v in curve]), width) for curve in curves[name]]
            )
            place.plot(steps, values.mean(axis=0), label=label, **style)
            place.fill_between(
                steps, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.08
            )
            place.set(title=title, xlabel="iteration")
        kl = numpy.mean([smooth(numpy.array([v for _, v in c])) for c in curves["objective/kl"]], axis=0)
        for name, place in (("objective/score", axes[1, 1]), ("objective/gold", axes[1, 2])):
            own = numpy.mean([smooth(numpy.array([v for _, v in c])) for c in curves[name]], axis=0)
            place.plot(numpy.sqrt(numpy.maximum(kl, 0)), own, **style)
            title = "proxy" if name.endswith("score") else "gold"
            place.set(title=f"{title} reward", xlabel="square root of KL")
    axes[0, 0].legend(frameon=False, fontsize=8)
    for place in axes.flat:
        place.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=90)
    print("| beta | ptx | proxy | gold | KL | held-out text loss |\n|---|---|---|---|---|---|")
    for (beta, ptx), curves in sorted(runs.items()):
        cells = []
        for name, _ in FIGURES:
            last = [numpy.mean([value for _, value in curve[-5:]]) for curve in curves[name]]
            if name == "objective/text_loss_held_out":
                last = [curve[-1][1] for curve in curves[name]]
            low, high = min(last), max(last)
            cells.append(f"{numpy.mean(last):.2f} ({low:.2f} to {high:.2f})")
        print(f"| {beta:g} | {ptx:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
