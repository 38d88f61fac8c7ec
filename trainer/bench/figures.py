"""The lines that were measured, and the figures of one thing over its runs."""

import json
import statistics
from dataclasses import dataclass, field


@dataclass
class Lines:
    """What was measured, each case in its last sitting: what one call of `.ci/bench` measures."""

    sittings: list = field(default_factory=list)
    of_cases: dict = field(default_factory=dict)

    def of(self, case, who):
        """The lines of a program in a case, by run; empty where it gave no figures."""
        found = self.of_cases.get(case, [])
        return {line["run"]: line for line in found if line["who"] == who and "failed" not in line}

    def why_not(self, case, who):
        """Why a program has no figures in a case."""
        found = self.of_cases.get(case, [])
        return next(
            (line["failed"] for line in found if line["who"] == who and "failed" in line),
            "not measured",
        )

    def values(self, case, who, figure):
        """A figure of each run, sorted."""
        return sorted(value(line, figure) for line in self.of(case, who).values())

    def ratios(self, figure, above, below):
        """A figure of one (case, who) over another's, each of the same run, sorted."""
        above, below = self.of(*above), self.of(*below)
        runs = above.keys() & below.keys()
        return sorted(value(above[run], figure) / value(below[run], figure) for run in runs)

    def tokens(self, case, who):
        """How much work a step was; None where there is no figure."""
        return next((line["tokens"] for line in self.of(case, who).values()), None)


def value(line, figure):
    """A figure of a line; tokens a second are made of two."""
    if figure == "tokens/s":
        return line["tokens"] / line["seconds"]
    return line[figure]


def read(path):
    """The lines of a file; a case measured again counts as it was last."""
    lines, sittings, last = Lines(), [], {}
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        case = line["case"]
        if case == "environment":
            sittings.append(line)
            continue
        if last.get(case) != len(sittings):
            last[case] = len(sittings)
            lines.of_cases[case] = []
        lines.of_cases[case].append(line)
    lines.sittings = [sittings[place - 1] for place in sorted(set(last.values()))]
    return lines


def median(values):
    """The middle one; of an even number the lower of the two."""
    return statistics.median_low(values)


def show(values, digits):
    """The median with the range."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"**{median(values):.{digits}f}** ({values[0]:.{digits}f}-{values[-1]:.{digits}f})"


def same_work(lines, ours, theirs):
    """Whether both count the same tokens; a ratio of different work says nothing."""
    return lines.tokens(*ours) == lines.tokens(*theirs)


# What others may take of a core before it is said beside a ratio: PyTorch's threads wait for each
# other, and one busy neighbour makes it several times slower.
MOST_OTHERS = 20


def disturbed(lines, *sides):
    """That other programs ran beside what was compared, where they did."""
    taken = [median(found) for side in sides if (found := lines.values(*side, "others_percent"))]
    most = max(taken, default=0)
    return f"others took {most:.0f} % of a core" if most > MOST_OTHERS else ""


def extrapolated(line):
    """Which part of the pairs was measured, where it was a part."""
    part = line.get("extrapolated")
    return f"extrapolated from {part['pairs']} of {part['of']} pairs" if part else ""
