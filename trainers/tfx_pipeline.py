"""Trains in a TFX pipeline: `python -m trainers.tfx_pipeline --trainer=puvae ...`.

ImportExampleGen reads TFRecords in TFDS's form, Trainer calls the trainer's `run_fn` by its dotted
path, and Pusher copies the SavedModel that it leaves to `SERVING_DIR/VERSION`. Artifacts and the
metadata (SQLite) go to the pipeline's root. Each call is an execution of its own, which trains from
the start and pushes a new version; where the trainer fails, nothing is pushed.

Without `--input_base` the data set's own training and validation images are written to
`PIPELINE_ROOT/input` first. The record at the end is of its test images in any case. TFX is an
extra (`tfx`) that needs Python 3.10; see README.md.
"""

from absl import flags

from tfpurify.training import presets
from trainers import _flags


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    flags.DEFINE_enum("trainer", "puvae", sorted(presets.PRESETS), "Trainer.")
    _flags.define_data()
    flags.DEFINE_string(
        "input_base", None, "Folder of TFRecords; the data set's own images if not given."
    )
    flags.DEFINE_string("train_pattern", "train*", "Glob of the files there to train on.")
    flags.DEFINE_string(
        "eval_pattern",
        "eval*",
        "Glob of the files there to validate on; if none matches, a tenth of the images of the "
        "others, which nothing is trained on.",
    )
    flags.DEFINE_string("pipeline_root", None, "Folder of the artifacts and the metadata.")
    flags.DEFINE_string("serving_dir", None, "Folder that versions are pushed to.")
    flags.DEFINE_integer("train_steps", None, "Cap on the number of steps.", lower_bound=1)
    flags.DEFINE_multi_string(
        "custom_config",
        [],
        "Options of the trainer by flag name: NAME=VALUE, again for each, or a JSON object.",
    )
    for name in ("pipeline_root", "serving_dir"):
        flags.mark_flag_as_required(name)
    return set(flags.FLAGS) - before


def run(options):
    """Runs the pipeline and returns the path of the version that it pushed.

    Args:
        options: The flags by name.
    """
    from tfpurify.training import tfx_run

    return tfx_run.run(options)


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), run)


if __name__ == "__main__":
    main()
