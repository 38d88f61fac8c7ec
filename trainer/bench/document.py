"""Writes measured lines up: a part of a Markdown file between two marks, and its picture.

What people wrote around the marks stays.
"""

from collections import defaultdict

import cases
import picture
import targets
from cases import OURS
from figures import extrapolated, median, same_work, show

BEGIN = "<!-- make bench writes from here -->"
END = "<!-- to here -->"
PICTURE = "benchmarks-training.svg"


def write(path, lines):
    """Puts the write-up between the marks of the file, and the picture beside it."""
    old = path.read_text(encoding="utf-8")
    before, mark, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{path} has no lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{write_up(lines)}\n{END}{after}", encoding="utf-8")
    panels = curves(lines)
    if panels:
        (path.parent / PICTURE).write_text(picture.draw(panels), encoding="utf-8")


def write_up(lines):
    """The whole part."""
    parts = [conditions(lines), targets.write_up(lines), all_cases(lines)]
    parts += [growth(lines), commands(lines)]
    return "\n".join(part for part in parts if part)


def conditions(lines):
    """When, where, on what, by which command."""
    parts = []
    for sitting in lines.sittings:
        changed = " with changes that were not committed" if sitting["changed_since_commit"] else ""
        where = sitting["machine"]
        parts.append(
            f"Written by `{sitting['command']}` on {sitting['date']}, commit {sitting['commit']}"
            f"{changed}. {where['processor']}, {where['cores']} cores, {where['memory_gib']} GiB, "
            f"Linux {where['kernel']}, Python {where['python']}; {sitting['threads']} threads. "
            f"Model: {sitting['model']}.\n"
        )
    parts.append(f"{versions(lines)}.\n")
    parts.append(EXPLANATION)
    return "\n".join(parts)


EXPLANATION = """\
Everything is f32, without gradient checkpointing, on drawn tokens, the same on both sides. Of \
each case ours and the others run in turn, each in a process of its own: the first step of a \
process is not counted, its figure is the median of the rest, and figures here are medians over \
the processes with their range. Ratios are of the same run. Peak memory is the most that a process \
ever had resident, its loading included. *Load before* is the load average when a process began, \
and *others* what other programs took of the cores meanwhile, in percent of one core.

In a reward step TRL takes all pairs of 4 rankings, 40 with K = 5 and 144 with K = 9, in each of \
which two completions pass anew, prompt and all; *PyTorch, K-wise* passes each completion once, \
after its prompt. Tokens are counted the same for all: of a reward step each prompt and each \
completion once, of generation and PPO the new ones. Where a figure is extrapolated, what the \
measured pairs took to pass forward and backward is scaled to all pairs, and the rest of the step \
is counted once.
"""


def versions(lines):
    """Every version that was measured; TRL has two, of which only the older has PPO."""
    found = defaultdict(set)
    for case, of_case in lines.of_cases.items():
        for line in of_case:
            for package, version in line.get("versions", {}).items():
                if package == "trl":
                    package = "TRL (PPO)" if case.startswith("ppo") else "TRL"
                found[package].add(version)
    return ", ".join(f"{package} {' and '.join(sorted(found[package]))}" for package in found)


def all_cases(lines):
    """The table of every case but those of the curves alone."""
    return f"### Cases\n\n{table(lines, cases.CASES)}"


COLUMNS = [
    "case",
    "program",
    "s",
    "tokens/s",
    "their time / ours",
    "peak memory, GB",
    "our memory / theirs",
    "load before",
    "others, %",
]


def table(lines, wanted):
    rows = [row for case in wanted if case.name in lines.of_cases for row in rows_of(lines, case)]
    notes = [f"\n{note}\n" for note in shared_peaks(lines, wanted)]
    return head(COLUMNS) + "".join(f"{row}\n" for row in rows) + "".join(notes)


def head(columns):
    """The first two lines of a table."""
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"


def rows_of(lines, case):
    """Ours and each peer in a case."""
    yield row(lines, case, OURS, "")
    for peer in case.peers:
        # Of the growth curves peers are left out where ours has no such case.
        if any(line["who"] == peer.name for line in lines.of_cases[case.name]):
            yield row(lines, case, peer.name, peer.name)


def row(lines, case, who, against):
    """One program in one case; `against` names the peer that ours is held against."""
    start = f"| `{case.name}` | {who} |"
    found = list(lines.of(case.name, who).values())
    if not found:
        return f"{start} {lines.why_not(case.name, who)} | | | | | | |"
    note = extrapolated(found[0])
    time, memory = "", ""
    if against:
        ours, theirs = (case.name, OURS), (case.name, against)
        time = memory = "-"
        if lines.of(*ours) and not same_work(lines, ours, theirs):
            time = f"not the same work: {lines.tokens(*ours)} and {lines.tokens(*theirs)} tokens"
        elif lines.of(*ours):
            time = show(lines.ratios("seconds", theirs, ours), 2)
            memory = show(lines.ratios("peak_bytes", ours, theirs), 2)
    cells = [
        show(lines.values(case.name, who, "seconds"), 2) + (f", {note}" if note else ""),
        show(lines.values(case.name, who, "tokens/s"), 0),
        time,
        show([size / 1e9 for size in lines.values(case.name, who, "peak_bytes")], 2),
        memory,
        f"{median(lines.values(case.name, who, 'load_before')):.1f}",
        f"{median(lines.values(case.name, who, 'others_percent')):.0f}",
    ]
    return f"{start} {' | '.join(cells)} |"


def shared_peaks(lines, wanted):
    """A sentence where a peak of ours is not that of the case alone."""
    shared = [
        f"`{case.name}`"
        for case in wanted
        if any(line.get("peak_shared") for line in lines.of(case.name, OURS).values())
    ]
    if shared:
        yield (
            f"In {', '.join(shared)} our process also ran cases whose names begin so: its peak is "
            "the most of all."
        )


def curves(lines):
    """The curves that have at least two points of ours."""
    panels = []
    for curve in cases.CURVES:
        series = {}
        for who in (OURS, curve.peer):
            points = [
                (x, median(found))
                for x, case in curve.points
                if (found := lines.values(case.name, who, curve.figure))
            ]
            if len(points) > 1:
                series[who] = points
        if OURS in series:
            panel = picture.Panel(
                curve.title, curve.grows, curve.figure, series, curve.is_logarithmic
            )
            panels.append(panel)
    return panels


def growth(lines):
    """The picture, and the figures of points that the table above does not have."""
    panels = curves(lines)
    if not panels:
        return ""
    says = "; ".join(panel.title[0].lower() + panel.title[1:] for panel in panels)
    return (
        "### Growth\n\nPoints that are not in the table above are one process each. Another "
        "vocabulary or size is a drawn model of SmolLM2's proportions.\n\n"
        f"![Ours and PyTorch's: {says}]({PICTURE})\n\n{table(lines, cases.growth())}"
    )


def commands(lines):
    """What each figure came from."""
    rows = [
        f"| `{case.name}`: {case.says} | {line['who']} | `{line['command']}` |\n"
        for case in cases.ALL
        for line in lines.of_cases.get(case.name, [])
        if line["run"] == 1
    ]
    says = "MODEL is the model's folder. `.ci/bench` runs these, in turn and with nothing to fetch."
    return f"### Commands\n\n{says}\n\n{head(['case', 'program', 'command'])}{''.join(rows)}"
