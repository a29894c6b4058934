"""Exports a defence for servers: `python -m trainers.export --dataset=mnist --defense=puvae`.

Writes `saved_models/NAME/VERSION/`, TensorFlow Serving's layout, or with `--format` one ONNX or
LiteRT file, from the zoo or from an output folder's runs.
"""

from pathlib import Path

from absl import flags, logging

from tfpurify import provenance, vocabulary
from trainers import _flags

_FALSE_ALARMS = 0.01  # share of clean validation images that are flagged
_CARD = "model_card.md"
_WARMUP = "assets.extra/tf_serving_warmup_requests"
_WARMUP_BATCHES = (1, 32)


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    _flags.define_data()
    flags.DEFINE_enum("classifier", None, vocabulary.CLASSIFIERS, "Classifier; the study's.")
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
        ValueError: If a part is not trained, or an option does not fit the defense.
        OSError: If the folder cannot be written.
    """
    import numpy as np

    from tfpurify.data import loading
    from tfpurify.evaluation import detection
    from tfpurify.purifiers.purified_classifier import PurifiedClassifier
    from tfpurify.serving.saved_model import export_classifier, export_purified_classifier
    from tfpurify.training import configuration, trained_parts

    configuration.require_name(options["name"])
    dataset, output_dir = options["dataset"], options["output_dir"]
    architecture = options["classifier"] or vocabulary.STUDY_CLASSIFIERS[dataset]
    defense, descent = _defense(options)
    classifier = trained_parts.load_classifier(dataset, output_dir, architecture)
    purifier = trained_parts.load_purifier(defense, dataset, output_dir, **descent)
    name = options["name"]
    if name is None:
        name = f"{defense}_{dataset}_{architecture}"
    folder = Path(output_dir) / "saved_models" / name
    if options["format"] != "saved_model":
        return _interchange(purifier, classifier, folder, options["format"])
    parts = [trained_parts.classifier_part(dataset, architecture)]
    if purifier is None:
        files = _files(_card(name, parts, output_dir, None), name, classifier.image_shape)
        version = export_classifier(classifier, folder, files)
    else:
        parts += trained_parts.purifier_parts(defense, dataset)
        source = loading.resolve_source(dataset, options["data_dir"], options["data_source"])
        images = loading.load_dataset(dataset, "validation", options["data_dir"], source)
        batches = images.take(options["calibration_examples"]).batch(50)
        errors = detection.errors_over(batches, purifier)
        threshold = float(np.quantile(errors, 1.0 - _FALSE_ALARMS))
        words = f"{len(errors)} clean validation images ({source})"
        card = _card(name, parts, output_dir, (threshold, words))
        files = _files(card, name, classifier.image_shape)
        purified = PurifiedClassifier(purifier, classifier)
        purified.build()
        version = export_purified_classifier(purified, folder, threshold, files)
    logging.info("SavedModel: %s", version)
    return version


def _interchange(purifier, classifier, folder, form):
    """Writes an ONNX or a LiteRT file and returns its path."""
    from tfpurify.purifiers.purified_classifier import PurifiedClassifier
    from tfpurify.serving import onnx_and_litert

    if purifier is None:
        raise ValueError(f"`format={form}` needs a purifier, a PuVAE. Received: defense=none")
    purified = PurifiedClassifier(purifier, classifier)
    purified.build()
    write, suffix = {
        "onnx": (onnx_and_litert.export_onnx, ".onnx"),
        "litert": (onnx_and_litert.export_litert, ".tflite"),
    }[form]
    path = folder.with_name(folder.name + suffix)
    write(purified, path)
    logging.info("%s: %s", form, path)
    return path


def _defense(options):
    """Returns the defense's name, the fast projector's being another, and DefenseGAN's options."""
    from tfpurify.training import trained_parts

    defense, projector = options["defense"], options["projector"]
    budget = options["time_budget_ms"]
    if not defense.startswith("defensegan"):
        if projector is not None or budget is not None:
            raise ValueError(
                "`projector` and `time_budget_ms` need a DefenseGAN. "
                f"Received: defense={defense}, projector={projector}, time_budget_ms={budget}"
            )
        return defense, {}
    if defense == "defensegan" and projector != "reference":
        names = [
            part.name
            for part in trained_parts.purifier_parts("defensegan_fast", options["dataset"])
        ]
        is_there = all(trained_parts.is_trained(name, options["output_dir"]) for name in names)
        if is_there or projector == "fast":
            defense = "defensegan_fast"
    if (projector == "fast") != (defense == "defensegan_fast") and projector is not None:
        raise ValueError(
            "`projector` must be that of the defense. "
            f"Received: projector={projector}, defense={defense}"
        )
    logging.info("DefenseGAN: the %s projector", "fast" if "fast" in defense else "reference")
    return defense, {} if budget is None else {"time_budget_ms": budget}


def _files(card, name, image_shape):
    """Returns what stands beside the graph: the card, and requests for a server to warm up with."""
    files = [(_CARD, card)]
    try:
        warmup = _warmup_requests(name, image_shape)
    except ImportError as error:
        logging.warning('No %s: it needs `pip install -e ".[serve]"`. Received: %s', _WARMUP, error)
        return files
    return [*files, (_WARMUP, warmup)]


def _warmup_requests(name, image_shape):
    """Returns a TFRecord file of requests to each signature that serves, alone and in a batch."""
    import tempfile

    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    image = tf.zeros(image_shape)
    file = tf.io.encode_png(tf.cast(image, tf.uint8))
    inputs = {
        "serving_default": ("images", image),
        "serve_uint8": ("images", tf.cast(image, tf.uint8)),
        "serve_image_bytes": ("image_bytes", file),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for signature, (key, value) in inputs.items():
                for size in _WARMUP_BATCHES:
                    request = predict_pb2.PredictRequest()
                    request.model_spec.name = name
                    request.model_spec.signature_name = signature
                    batch = tf.stack([value] * size)
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(batch.numpy()))
                    log = prediction_log_pb2.PredictLog(request=request)
                    entry = prediction_log_pb2.PredictionLog(predict_log=log)
                    writer.write(entry.SerializeToString())
        return path.read_bytes()


def _card(name, parts, output_dir, flag):
    """Returns the bundle's card, Markdown, with those of the zoo's models that are in it."""
    from tfpurify.models import zoo

    versions = ", ".join(f"{name} {value}" for name, value in provenance.versions().items())
    lines = [f"# {name}", "", "Made by:", "", f"    {provenance.command_line()}", ""]
    lines += [f"Versions: {versions}", "", "Parts:", ""]
    cards = []
    for part in (part.name for part in parts):
        is_run = (Path(output_dir) / "runs" / part / "model.keras").exists()
        lines.append(f"- {part}, from {'a run' if is_run else 'the zoo'}")
        path = zoo.default_folder() / f"{part}.md"
        if not is_run and path.exists():
            cards.append(path.read_text(encoding="utf-8").replace("# ", "## ", 1))
    if flag is not None:
        threshold, words = flag
        lines += [
            "",
            f"`is_flagged`: the reconstruction error is above {threshold:.6g}, the "
            f"{1 - _FALSE_ALARMS:.0%} quantile of {words}.",
        ]
    return "\n".join([*lines, "", *cards]).encode()


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), export)


if __name__ == "__main__":
    main()
