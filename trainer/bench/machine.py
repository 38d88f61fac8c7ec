"""What the kernel says of the machine and of a child: time, memory, load."""

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Ended:
    """A child that ended."""

    status: int
    output: str
    errors: str
    peak_bytes: int
    load_before: float
    # What others took of the processors meanwhile, in percent of one.
    others_percent: float


def load_average():
    """How many processes ran or wanted to, on average over the last minute."""
    return os.getloadavg()[0]


def busy_seconds():
    """Processor seconds of the whole machine so far: all but idle and waiting."""
    user, nice, system, _, _, irq, softirq, *_ = (
        int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / TICKS


def resident_bytes(process):
    """What a process has in memory now."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def wait(child):
    """Usage and peak memory of a child when it has ended.

    `wait4` gives the usage of this child alone, where `getrusage` would give the largest of all. A
    process may have its peak counted anew, as ours does after loading; looking ten times a second
    sees what came before.
    """
    seen = 0
    while True:
        ended, status, usage = os.wait4(child.pid, os.WNOHANG)
        if ended:
            child.returncode = os.waitstatus_to_exitcode(status)
            return usage, max(seen, usage.ru_maxrss * 1024)
        seen = max(seen, resident_bytes(child.pid))
        time.sleep(0.1)


def run(command, environment, folder):
    """Runs a command to its end; what it says is kept in `folder` until the next."""
    load, busy, began = load_average(), busy_seconds(), time.monotonic()
    output, errors = folder / "output.log", folder / "errors.log"
    with open(output, "w") as said, open(errors, "w") as aside:
        child = subprocess.Popen(command, env=environment, stdout=said, stderr=aside)
        usage, peak = wait(child)
    others = busy_seconds() - busy - usage.ru_utime - usage.ru_stime
    return Ended(
        status=child.returncode,
        output=output.read_text(encoding="utf-8", errors="replace"),
        errors=errors.read_text(encoding="utf-8", errors="replace"),
        peak_bytes=peak,
        load_before=load,
        others_percent=max(0.0, 100 * others / (time.monotonic() - began)),
    )


def first(text, name):
    """The value of the first line that begins with `name`."""
    lines = (line for line in text.splitlines() if line.startswith(name))
    return next(lines, "").partition(":")[2].strip()


def describe():
    """What the figures were measured on."""
    kib = first(Path("/proc/meminfo").read_text(), "MemTotal").split()[0]
    return {
        "processor": first(Path("/proc/cpuinfo").read_text(), "model name"),
        "cores": os.cpu_count(),
        "memory_gib": round(int(kib) / 1024**2),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
