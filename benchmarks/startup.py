"""How long it takes to begin: `python -m benchmarks.startup --json=FILE`."""

import subprocess
import sys

from absl import flags

from benchmarks import _options
from trainers import _flags

# Timed in a process that has imported Keras.
STATEMENTS = {
    "tfpurify": "import tfpurify",
    "every model of tfpurify": "import tfpurify; "
    "tfpurify.PurifiedClassifier, tfpurify.AdvGAN, tfpurify.PGD, tfpurify.evaluate",
}
_AFTER_KERAS = """
import time
import keras
started = time.perf_counter()
{}
print(time.perf_counter() - started)
"""
TRAINERS = ("classifier", "puvae", "defensegan", "encoder", "advgan", "reproduce", "attack")


def define_flags():
    """Defines what this benchmark has beside the common flags."""
    flags.DEFINE_integer("rounds", 5, "Timed rounds.", lower_bound=3)


def _run(*arguments):
    # absl's `--help` ends with status 1, so that what was printed tells a crash.
    shown = subprocess.run(
        [sys.executable, *arguments], check=False, capture_output=True, text=True
    )
    if not shown.stdout:
        raise ValueError(f"{arguments} must print something. Received: {shown.stderr}")
    return shown.stdout


def measure(options):
    """Times imports and `--help`, each in processes of its own."""
    from benchmarks import _measure

    added = {
        name: [float(_run("-c", _AFTER_KERAS.format(code))) for _ in range(options["rounds"])]
        for name, code in STATEMENTS.items()
    }
    calls = {name: lambda name=name: _run("-m", f"trainers.{name}", "--help") for name in TRAINERS}
    seconds = _measure.in_turn(calls, options["rounds"])
    shown = {name: _measure.spread(values) for name, values in seconds.items()}
    results = {
        "seconds_added_to_keras": {name: _measure.spread(v) for name, v in added.items()},
        "help_seconds": max(figures["median"] for figures in shown.values()),
        "help": shown,
    }
    _measure.write(options["json"], results, rounds=options["rounds"], seed=None, data_source=None)


def main():
    """Runs the command line."""
    _flags.run_app(_options.define(define_flags), measure)


if __name__ == "__main__":
    main()
