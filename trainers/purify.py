"""Purifies a store of images: `python -m trainers.purify --input_pattern='images/*.png' ...`.

An Apache Beam pipeline (extra `beam`) over an exported `--bundle`, or over a `--defense`. What
follows `--` goes to Beam: `-- --direct_num_workers=2 --direct_running_mode=multi_processing`, or
another `--runner` than its own in Python, FnApiRunner. Its DaskRunner lost elements when it was
tried: do not use it.

Reads image files (PNG, JPEG) or TFRecords of `tf.train.Example` and writes into the output folder

- `purified-*.tfrecord`: examples of `key`, `image` (the purified one, PNG), `label`,
  `reconstruction_error` and, if the bundle has it, `is_flagged`;
- `rejected-*.jsonl`: `key` and `reason` of what is no image;
- `counts.json`: how many were read, purified and rejected; the first is the sum of the others. It
  is removed first, with all that an earlier run wrote, and written last: where it is, all is there.

A key is a file's path and, in TFRecords, `#` and the record's place. The same input gives the same
files, byte for byte, however many workers there are.
"""

import os
import sys

from absl import flags

from tfpurify import vocabulary
from trainers import _flags


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    flags.DEFINE_string("input_pattern", None, "Glob of image files or TFRecords.")
    flags.DEFINE_string("output_dir", None, "Folder of the output.")
    flags.DEFINE_string("bundle", None, "Folder that `trainers.export` wrote.")
    flags.DEFINE_enum(
        "defense",
        None,
        [name for name in vocabulary.DEFENSES if name != "none"],
        "Instead of a bundle: a purifier of runs/ or the zoo, exported for this run alone. Workers "
        "on other machines need a bundle that they can read.",
    )
    _flags.define_data()
    _flags.define_classifier()
    flags.DEFINE_string(
        "sheet", None, "PNG file: a few test images of the data set, purified by it, to look at."
    )
    flags.DEFINE_string("feature", "image/encoded", "Of an example: the image's file.")
    flags.DEFINE_integer(
        "shards", 8, "Files of each kind of output; each fits into memory.", lower_bound=1
    )
    flags.DEFINE_integer("batch_size", 32, "Images that are purified at once.", lower_bound=1)
    for name in ("input_pattern", "output_dir"):
        flags.mark_flag_as_required(name)
    return set(flags.FLAGS) - before


def purify(options, beam_arguments=()):
    """Runs the pipeline over the flags by name, and Beam's own; returns its counts."""
    from tfpurify.serving.purified_store import purify_store

    return purify_store(options, beam_arguments)


def main():
    """Runs the command line; what follows `--` is Beam's."""
    arguments = sys.argv[1:]
    place = arguments.index("--") if "--" in arguments else len(arguments)
    sys.argv = [sys.argv[0], *arguments[:place]]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    _flags.run_app(define_flags(), lambda options: purify(options, arguments[place + 1 :]))


if __name__ == "__main__":
    main()
