"""How long it takes to begin: `python -m benchmarks.startup --json=FILE`."""

import subprocess
import sys

from absl import flags

from trainers import _flags

_MODELS = "import tfpurify; tfpurify.PurifiedClassifier, tfpurify.AdvGAN, tfpurify.evaluate"
STATEMENTS = {
    "keras": "import keras",
    "keras and tfpurify": "import keras, tfpurify",
    "keras and every model of tfpurify": f"import keras; {_MODELS}",
}
TRAINERS = ("classifier", "puvae", "defensegan", "encoder", "advgan", "reproduce")


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    flags.DEFINE_string("json", None, "File that the results are written to.")
    flags.DEFINE_integer("rounds", 5, "Timed rounds.", lower_bound=3)
    return set(flags.FLAGS) - before


def _run(*arguments):
    subprocess.run([sys.executable, *arguments], check=False, capture_output=True)


def measure(options):
    """Times imports and `--help`, each in processes of its own."""
    from benchmarks import _measure

    calls = {name: lambda code=code: _run("-c", code) for name, code in STATEMENTS.items()}
    for name in TRAINERS:
        calls[f"{name} --help"] = lambda name=name: _run("-m", f"trainers.{name}", "--help")
    seconds = _measure.in_turn(calls, options["rounds"])
    keras = seconds["keras"]
    added = {
        name: _measure.spread([a - b for a, b in zip(seconds[name], keras, strict=True)])
        for name in list(STATEMENTS)[1:]
    }
    results = {
        "seconds": {name: _measure.spread(values) for name, values in seconds.items()},
        "seconds_added_to_keras": added,
        "help_seconds": max(
            _measure.spread(seconds[f"{name} --help"])["median"] for name in TRAINERS
        ),
    }
    _measure.write(options["json"], results, rounds=options["rounds"])


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), measure)


if __name__ == "__main__":
    main()
