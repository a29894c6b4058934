"""Malformed command lines, generated, given to the programs themselves.

As in `_malformed`, each function counts what was answered and what refused, and raises
AssertionError at an answer that is wrong and whatever else than a refusal comes out. A process has
one set of flags: call each by `apart`.
"""

import collections
import concurrent.futures
import contextlib
import importlib
import io
import json
import math
import multiprocessing
import sys
from pathlib import Path

from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._malformed import examples

# Ends every command line, so that one that is right takes seconds.
_ALWAYS = {
    "export": ("--dataset=mnist", "--data_source=embedded", "--calibration_examples=4"),
    "serve": (),
    "purify": ("--shards=1",),
    "attack": ("--dataset=mnist", "--data_source=embedded", "--limit=1", "--num_steps=1"),
    "detect": (
        *("--dataset=mnist", "--data_source=embedded", "--limit=1", "--num_steps=1"),
        "--clean_limit=4",
    ),
}
PROGRAMS = tuple(_ALWAYS)
_WORDS = st.text(max_size=12) | st.sampled_from(
    ["mnist", "puvae", "-1", "nan", "1e400", "../x", "../../../x"]
)


def apart(function, *arguments, timeout=None):
    """Returns what a function of this module does in a process of its own, within `timeout` s."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result(timeout)


def parse(trainer, count):
    """Gives a trainer flags of all values, in this process and before any run.

    Args:
        trainer: `classifier`, `puvae`, `defensegan`, `encoder` or `advgan`.
        count: Command lines.
    """
    from tfpurify.training import configuration
    from trainers import _flags

    names = sorted(_flags.define(trainer))
    defaults = _values(names)
    counts = collections.Counter()

    @examples(count)
    @given(_lines(names))
    def check(pairs):
        _reset(defaults)
        try:
            rest = flags.FLAGS(["trainer", *_arguments(pairs)])
            given_values = _values(names)
            config = configuration.resolve(trainer, given_values)
        except (flags.Error, ValueError):
            counts["refused"] += 1
            return
        if len(rest) > 1:
            counts["refused"] += 1
            return
        last = dict(pairs)
        for name in set(last) & set(names):
            assert config[name] == given_values[name], f"--{name}={last[name]} was dropped"
        assert _are_finite(config), f"{pairs} were taken"
        counts["answered"] += 1

    check()
    return dict(counts)


def run(program, folder, count, first=(), last=()):
    """Runs a program's `main` with flags of all values; a refusal is one line and exit status 1.

    Args:
        program: Of `PROGRAMS`.
        folder: Empty, for what it writes.
        count: Command lines.
        first: Arguments that begin each of them; later ones of the same flag win.
        last: Arguments that end each of them.
    """
    module = importlib.import_module(f"trainers.{program}")
    names = sorted(module.define_flags())
    module.define_flags = lambda: set(names)  # they are there now
    defaults = _values(names)
    counts = collections.Counter()
    path = Path(folder) / "within" / "output"  # ../../../NAME from saved_models/ is in `folder`
    if program == "serve":
        from tfpurify.serving import server

        server._kserve = lambda: (lambda *_: None, _Started)
        server._require_free = lambda _: None
    if "output_dir" in names:
        last = (*last, f"--output_dir={path}")
    if "results_file" in names:
        last = (*last, f"--results_file={path / 'results.jsonl'}")

    @examples(count)
    @given(_lines(names))
    def check(pairs):
        _reset(defaults)
        sys.argv = [program, *first, *_arguments(pairs), *_ALWAYS[program], *last]
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                module.main()
                status = 0
            except SystemExit as end:
                status = end.code or 0
        if status == 0:
            assert _are_finite(_values(names)), f"{pairs} were taken"
            _require_finite(out.getvalue())
            assert {one.name for one in Path(folder).glob("*")} <= {"within"}, f"{pairs} left it"
            counts["answered"] += 1
            return
        lines = [line for line in error.getvalue().splitlines() if line.startswith("error: ")]
        assert status == 1 and len(lines) == 1, f"{pairs}: exit {status}, {error.getvalue()}"
        assert "Traceback" not in error.getvalue(), f"{pairs}: {error.getvalue()}"
        counts["refused"] += 1

    check()
    return dict(counts)


class _Started:
    """Stands for a server: it is asked for, and does not serve."""

    def __init__(self, **_):
        pass

    def start(self, models):
        assert models


def _require_finite(text):
    """Checks that all numbers of the JSON objects in a text are finite."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        found, length = decoder.raw_decode(text[start:])
        assert _are_finite(found), found
        start = text.find("{", start + length)


def _are_finite(values):
    return all(math.isfinite(one) for one in values.values() if isinstance(one, float))


def _values(names):
    return {name: flags.FLAGS[name].value for name in names}


def _reset(defaults):
    flags.FLAGS.unparse_flags()
    for name, value in defaults.items():
        flags.FLAGS[name].value = value


def _arguments(pairs):
    return [f"--{name}={value}" for name, value in pairs]


def _lines(names):
    """Returns a strategy for lists of flags and values, of which about half may be right."""
    values = _WORDS | st.integers().map(str) | st.floats().map(str)
    wrong = st.tuples(st.sampled_from(names) | _WORDS, values)
    likely = st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), _likely(name)))
    return st.lists(likely, max_size=3) | st.lists(likely | wrong, max_size=4)


def _likely(name):
    """Returns a flag's values that may be right."""
    from tfpurify import vocabulary

    choices = getattr(flags.FLAGS[name].parser, "enum_values", None)
    choices = choices or {
        "attack": vocabulary.ATTACKS,
        "gradient_mode": (*vocabulary.GRADIENT_MODES, "strongest"),
    }.get(name)
    usual = ("1", "2", "0.5", "nan", "inf", "true", "somewhere", "../../../elsewhere")
    return st.sampled_from(list(choices or usual))
