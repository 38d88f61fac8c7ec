"""The peers' programs, from PyPI into a folder beside the build, as `.ci/transformers` does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

# The last release with PPO. It needs a folder of its own, since one environment holds one TRL.
TRL_WITH_PPO = "trl==1.12.0"

# What the environment takes, with what pip unpacks on the way.
GIGABYTES = 12


class Missing(Exception):
    """A peer that cannot be had, in one line."""


def python(home):
    """A Python that has the peers: PLACKETT_BENCH_PYTHON, or one made below `home`."""
    named = os.environ.get("PLACKETT_BENCH_PYTHON")
    if named:
        return named
    made = home / "python" / "bin" / "python"
    if not made.exists():
        free = shutil.disk_usage(home).free / 1e9
        if free < GIGABYTES:
            raise Missing(f"they need {GIGABYTES} GB of disk, and {free:.0f} are free")
        run([sys.executable, "-m", "venv", str(home / "python")])
    pip(made, "--requirement", str(HERE / "requirements.txt"))
    return str(made)


def trl_with_ppo(home, interpreter):
    """The folder of the TRL that has PPO, to be put before the other on the path."""
    folder = home / TRL_WITH_PPO.replace("==", "-")
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        pip(interpreter, "--no-deps", "--target", str(unfinished), TRL_WITH_PPO)
        unfinished.rename(folder)
    return str(folder)


def pip(interpreter, *words):
    """Installs quietly."""
    quiet = ["--quiet", "--disable-pip-version-check"]
    run([str(interpreter), "-m", "pip", "install", *quiet, *words])


def run(command):
    """Runs a command; the last line of what it said is why it failed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(said[-1] if said else f"exit status {done.returncode}")
