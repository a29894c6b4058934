"""Exports a defence for servers: `python -m trainers.export --dataset=mnist --defense=puvae`.

Writes `saved_models/NAME/VERSION/`, TensorFlow Serving's layout, or with `--format` one ONNX or
LiteRT file, from the zoo or from an output folder's runs.
"""

from absl import flags

from tfpurify import vocabulary
from trainers import _flags


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    _flags.define_data()
    _flags.define_classifier()
    flags.DEFINE_enum("defense", "puvae", vocabulary.DEFENSES, "Purifier in front of it.")
    flags.DEFINE_enum(
        "format",
        "saved_model",
        ("saved_model", "onnx", "litert"),
        "A SavedModel, or saved_models/NAME.onnx or .tflite of a PuVAE and its classifier.",
    )
    flags.DEFINE_enum(
        "projector",
        None,
        ("fast", "reference"),
        "DefenseGAN's: with its encoder, or the paper's descent; fast where there is an encoder.",
    )
    flags.DEFINE_float(
        "time_budget_ms", None, "Milliseconds for an image that the fast projector may take here."
    )
    flags.DEFINE_integer(
        "calibration_examples",
        1000,
        "Cap on the clean validation images that the threshold of the flag comes from.",
        lower_bound=1,
    )
    flags.DEFINE_string("name", None, "Of the bundle; DEFENSE_DATASET_CLASSIFIER.")
    flags.DEFINE_string(
        "output_dir", ".", "Where saved_models/ is written, and whose runs/ go before the zoo."
    )
    return set(flags.FLAGS) - before


def export(options):
    """Exports a defence and returns the path of the version or of the file.

    Args:
        options: The flags by name.

    Raises:
        ValueError: If a part is not trained, or an option does not fit the defence.
        OSError: If the folder cannot be written.
    """
    from tfpurify.serving.trained_defence import export_trained

    return export_trained(**options)


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), export)


if __name__ == "__main__":
    main()
