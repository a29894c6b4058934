"""Timing in pairs, the machine's description, and the file that a benchmark writes."""

import json
import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from tfpurify.files import write_aside
from tfpurify.provenance import command_line, versions

_PEERS = ("torch",)


def in_turn(calls, rounds, warm_up=1):
    """Times several calls round by round, so that a machine that slows down slows all of them.

    Args:
        calls: Dictionary of name -> function without arguments, whose result is waited for.
        rounds: Counted rounds.
        warm_up: Rounds before them, where graphs are traced.

    Returns:
        Dictionary of name -> list of seconds, one a round.
    """
    seconds = {name: [] for name in calls}
    for index in range(warm_up + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            _wait(call())
            if index >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _wait(result):
    """Waits for a result that a GPU may still be at work on."""
    for part in result if isinstance(result, tuple) else (result,):
        np.asarray(part)


def ratio(numerators, denominators):
    """Returns the median, smallest and largest of the ratios, round by round."""
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


def spread(values):
    """Returns the median, the smallest and the largest of the values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def write(path, results, *, seed, data_source, **conditions):
    """Writes a benchmark's results with all that they depend on, and prints them.

    Args:
        path: JSON file, or None to print only.
        results: The figures.
        seed: Of all that is drawn; None where nothing is.
        data_source: `tfds` or `embedded`; None where no images are read.
        **conditions: Numbers of images, steps.
    """
    report = {
        **results,
        "conditions": {"seed": seed, "data_source": data_source, **conditions},
        "machine": machine(),
        "versions": {**versions(), **_peer_versions()},
        "command": command_line(),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if path:
        write_aside(Path(path), text + "\n")


def machine():
    """Returns the processor's name and how many of its cores this process may use."""
    name = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = found[0].partition(":")[2].strip() if found else name
    return {"processor": name, "cores": len(os.sched_getaffinity(0)), "system": platform.system()}


def _peer_versions():
    return {name: metadata.version(name) for name in _PEERS if has_peer(name)}


def has_peer(name):
    """Returns whether an optional peer is installed."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
