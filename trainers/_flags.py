"""The trainers' flags, and the way from a command line to one call of `run_fn`."""

import os
import sys

from absl import app, flags, logging

from tfpurify.files import claim_beside
from tfpurify.training import fn_args
from tfpurify.training.options import CLASSIFIER, DATA, OPTIONS

# So that `--help` shows these flags as the trainer's own.
flags.disclaim_key_flags()

# Of the flags that say which images and which classifier; the others are said in these two.
_KEPT = ("dataset", "data_source", "data_dir", "classifier")


def define(trainer):
    """Defines a trainer's flags and returns their names.

    Only a `main` calls this, so that all trainers can be imported together. A flag that is not
    given takes its value from the preset (`tfpurify.training.presets`).
    """
    before = set(flags.FLAGS)
    define_data(source=None)
    for option in OPTIONS[trainer].values():
        if option.help and option not in DATA:
            _define(option, None)
    return set(flags.FLAGS) - before


def define_data(dataset="mnist", source="auto"):
    """Defines the flags that say which images.

    Args:
        dataset: Default of `--dataset`.
        source: Default of `--data_source`.
    """
    for option, default in zip(DATA, (dataset, source, None, None), strict=True):
        _define(option, default)


def define_classifier():
    """Defines the flags that say which classifier; ours of the data set where none is given."""
    for option in CLASSIFIER:
        _define(option, None)


def _define(option, default):
    name, text = option.name, option.help
    if option.choices:
        flags.DEFINE_enum(name, default, option.choices, text)
    elif option.kind is bool:
        flags.DEFINE_bool(name, default, text)
    elif option.kind is str:
        flags.DEFINE_string(name, default, text)
    else:
        define = {int: flags.DEFINE_integer, float: flags.DEFINE_float}[option.kind]
        define(name, default, text, lower_bound=option.minimum)


def run(trainer, run_fn):
    """Parses the command line, calls `run_fn` once and exits; an error is one line, exit status 1.

    Args:
        trainer: The trainer's name.
        run_fn: Its `run_fn(fn_args)`.
    """
    run_app(define(trainer), lambda options: run_fn(fn_args.FnArgs(custom_config=options)))


def run_app(names, call):
    """Runs `call(options)`, the flags in `names` by name; an int that it returns is the status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    def main(argv):
        if len(argv) > 1:
            _fail(f"Arguments must be flags. Received: {' '.join(argv[1:])}")
        logging.set_verbosity(logging.INFO)
        options = {name: flags.FLAGS[name].value for name in names}
        try:
            if options.get("results_file"):
                claim_beside(options["results_file"])  # lines are replaced in it as they are found
            status = call(_known(options))
            return status if isinstance(status, int) else 0
        except _expected_errors() as error:
            logging.debug("The run failed.", exc_info=True)
            _fail(str(error))

    app.run(main, flags_parser=_parse)


def _known(options):
    """Returns options with the names of images and a classifier of one's own in place of paths."""
    if options.get("dataset") in (None, "all"):
        return options
    from tfpurify.data import own
    from tfpurify.training import own_classifier

    dataset = own.register(options["dataset"], options.get("image_size"), options.get("data_dir"))
    options = {**options, "dataset": dataset}
    if "classifier" in options:
        options["classifier"] = own_classifier.register(options)
    said = {option.name for option in (*DATA, *CLASSIFIER)} - set(_KEPT)
    return {name: value for name, value in options.items() if name not in said}


def _parse(argv):
    if any(argument.lstrip("-").startswith("help") for argument in argv[1:]):
        return app.parse_flags_with_usage(argv)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        return _fail(str(error))


def _expected_errors():
    import tensorflow as tf

    return (ValueError, TypeError, OSError, ImportError, FloatingPointError, tf.errors.OpError)


def _fail(message):
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
