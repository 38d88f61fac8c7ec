"""What the document says of lines: `python3 -m unittest discover trainer/bench`."""

import json
import os
import sys
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

import cases
import document
import figures
import measure
import picture
import targets
from cases import KWISE, OURS, PYTORCH, TRL

SITTING = {
    "case": "environment",
    "date": "2026-01-02",
    "commit": "abc",
    "changed_since_commit": False,
    "command": ".ci/bench",
    "model": "M",
    "threads": 2,
    "machine": {"processor": "P", "cores": 2, "memory_gib": 24, "kernel": "6", "python": "3.11"},
}


def line(case, who, seconds, run=1, **more):
    figures_of_it = {"tokens": 100, "peak_bytes": 10**9, "load_before": 1.0, "others_percent": 2.0}
    shown = {"case": case, "run": run, "who": who, "command": f"{who} {case}", "seconds": seconds}
    return shown | figures_of_it | more


class WriteUp(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def read(self, *lines):
        path = self.folder / "lines.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return figures.read(path)

    def target(self, lines, case, peer, figure="seconds"):
        found = (t for t in targets.TARGETS if (t.case, t.peer, t.figure) == (case, peer, figure))
        return targets.row(lines, next(found))

    def test_ratios_are_of_the_same_run(self):
        lines = self.read(
            SITTING,
            line("sft_step", OURS, 1.0, run=1),
            line("sft_step", PYTORCH, 2.0, run=1),
            line("sft_step", OURS, 9.0, run=2),
            line("sft_step", PYTORCH, 3.0, run=2),
            line("sft_step", OURS, 4.0, run=3),
        )
        row = self.target(lines, "sft_step", PYTORCH)
        self.assertIn("| **0.50** (0.50-3.00) | met |", row)

    def test_a_target_is_met_from_its_bound_on(self):
        for theirs, said in [(1.8, "met"), (1.79, "**missed**")]:
            lines = self.read(
                SITTING,
                line("reward_k5_prompt256", OURS, 1.0),
                line("reward_k5_prompt256", KWISE, theirs),
            )
            self.assertIn(f"| {said} |", self.target(lines, "reward_k5_prompt256", KWISE))

    def test_what_was_extrapolated_says_so(self):
        part = {"extrapolated": {"pairs": 24, "of": 144}}
        lines = self.read(
            SITTING,
            line("reward_k9_prompt64", OURS, 1.0),
            line("reward_k9_prompt64", TRL, 11.0, **part),
        )
        said = "extrapolated from 24 of 144 pairs"
        self.assertIn(said, self.target(lines, "reward_k9_prompt64", TRL))
        self.assertIn(said, document.all_cases(lines))

    def test_different_work_has_no_ratio(self):
        lines = self.read(
            SITTING, line("ppo_step", OURS, 1.0), line("ppo_step", TRL, 2.0, tokens=50)
        )
        self.assertIn("not the same work", self.target(lines, "ppo_step", TRL))
        self.assertIn("not the same work: 100 and 50 tokens", document.all_cases(lines))

    def test_busy_neighbours_are_told_beside_a_ratio(self):
        lines = self.read(
            SITTING,
            line("sft_step", OURS, 1.0),
            line("sft_step", PYTORCH, 2.0, others_percent=102.0),
        )
        self.assertIn(
            "| 0.50, others took 102 % of a core | met |", self.target(lines, "sft_step", PYTORCH)
        )

    def test_lora_is_held_against_the_peers_whole_models(self):
        lines = self.read(
            SITTING,
            line("ppo_step", TRL, 2.0, peak_bytes=10 * 10**9),
            line("ppo_lora", OURS, 1.0, peak_bytes=3 * 10**9),
        )
        self.assertIn("| 0.30 | met |", self.target(lines, "ppo_lora", TRL, "peak_bytes"))

    def test_a_case_counts_as_it_was_last(self):
        lines = self.read(
            SITTING,
            line("sft_step", OURS, 1.0),
            line("ppo_step", OURS, 1.0),
            SITTING | {"commit": "def"},
            line("sft_step", OURS, 2.0),
        )
        self.assertEqual(lines.values("sft_step", OURS, "seconds"), [2.0])
        self.assertEqual([sitting["commit"] for sitting in lines.sittings], ["abc", "def"])

    def test_what_is_missing_is_said(self):
        lines = self.read(
            SITTING,
            {"case": "ppo_step", "run": 1, "who": OURS, "command": "c", "failed": "no such case"},
        )
        self.assertIn("| `ppo_step` | Plackett | no such case |", document.all_cases(lines))
        self.assertIn("| not measured | |", self.target(lines, "ppo_step", TRL))

    def test_words_around_the_marks_stay(self):
        path = self.folder / "benchmarks.md"
        path.write_text(
            f"before\n{document.BEGIN}\nlast time\n{document.END}\nafter\n{document.END}\n"
        )
        document.write(path, self.read(SITTING, line("sft_step", OURS, 1.0)))
        text = path.read_text()
        self.assertTrue(text.startswith("before\n") and text.endswith(f"\nafter\n{document.END}\n"))
        self.assertNotIn("last time", text)

    def test_curves_take_points_of_the_cases_above(self):
        lines = self.read(
            SITTING,
            line("reward_k2_prompt64", OURS, 1.0),
            line("reward_k5_prompt64", OURS, 2.0),
            line("reward_k5_prompt64", KWISE, 4.0),
        )
        (panel,) = document.curves(lines)
        self.assertEqual(panel.series, {OURS: [(2, 1.0), (5, 2.0)]})
        self.assertIn("</svg>", picture.draw([panel]))


class Cases(unittest.TestCase):
    def test_names_are_said_once(self):
        names = [case.name for case in cases.ALL]
        self.assertEqual(len(names), len(set(names)))

    def test_peers_measure_whole_micro_batches(self):
        for case in cases.CASES:
            for peer in case.peers:
                if peer.script == "reward_trl.py":
                    sizes = dict(zip(peer.arguments[::2], map(int, peer.arguments[1::2])))
                    self.assertEqual(sizes["--pairs"] % sizes["--micro"], 0)
                    self.assertLessEqual(sizes["--pairs"], cases.n_pairs(sizes["--completions"]))

    def test_smollm2_has_135_million_parameters(self):
        (own,) = (shape for shape in cases.SHAPES if shape.width == cases.OWN_WIDTH)
        self.assertEqual(own.parameters(), 134_515_008)


class Children(unittest.TestCase):
    def programs(self, folder, says):
        program = Path(folder) / "plackett"
        program.write_text(f"#!{sys.executable}\n{says}\n")
        program.chmod(0o755)
        options = types.SimpleNamespace(
            home=Path(folder), model=Path(folder), plackett=program, threads=2
        )
        with mock.patch.dict(os.environ, {"PLACKETT_BENCH_PYTHON": sys.executable}):
            return measure.Programs(options)

    def test_ours_is_the_line_of_its_name_with_a_peak_of_its_own(self):
        answer = dict(seconds_median=1.5, tokens=7, version="1")
        lines = [answer | {"case": name} for name in ("sft_step_more", "sft_step")]
        says = f"""
import json, time
x = bytearray(64 << 20)
time.sleep(0.3)
del x
# The kernel forgets the peak.
open("/proc/self/clear_refs", "w").write("5")
for line in {lines!r}:
    print(json.dumps(line))
"""
        with tempfile.TemporaryDirectory() as folder:
            found = self.programs(folder, says).ours(cases.CASES[0], 1)
        self.assertEqual((found["seconds"], found["tokens"]), (1.5, 7))
        self.assertTrue(found["peak_shared"])
        self.assertTrue(64 << 20 < found["peak_bytes"] < 200 << 20, found["peak_bytes"])

    def test_no_answer_is_not_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            found = self.programs(folder, "").ours(cases.CASES[0], 1)
        self.assertIn("not measured", found["failed"])

    def test_a_failure_is_its_last_line(self):
        says = "raise SystemExit('first\\nno memory')"
        with tempfile.TemporaryDirectory() as folder:
            found = self.programs(folder, says).ours(cases.CASES[0], 1)
        self.assertEqual(found["failed"], "no memory")

    def test_places_on_this_machine_are_not_told(self):
        said = measure.plain("no file '/home/me/a.bin': see /tmp/b.log or a/b | c")
        self.assertEqual(said, "no file 'a.bin': see b.log or a/b / c")


if __name__ == "__main__":
    unittest.main()
