"""What Linux tells of a process: the CPU time that it used, and the memory that it holds."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time since its start, in steps of 10 ms."""
    return ticks(Path(f"/proc/{pid}/stat").read_text()) / TICKS


def ticks(stat: str) -> int:
    """utime + stime of a line of /proc/PID/stat. The name in parentheses may hold spaces and parentheses."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def rss_mib(pid: int) -> float:
    return resident(Path(f"/proc/{pid}/status").read_text()) / 1024


def resident(status: str) -> int:
    """VmRSS of /proc/PID/status, in KiB."""
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


def tree(pid: int) -> tuple[int, ...]:
    """A process and all processes below it."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return (pid, *(each for child in children for each in tree(child)))
