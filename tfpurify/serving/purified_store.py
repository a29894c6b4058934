"""A store of images, purified: the Beam pipeline with what has to be right before and after it."""

import json
import tempfile

from absl import logging

from tfpurify.data import loading
from tfpurify.evaluation.attack_sheet import make_sheet
from tfpurify.evaluation.defences import Defence
from tfpurify.files import claim
from tfpurify.report.figures import figure_images
from tfpurify.report.writing import require_writable
from tfpurify.serving.saved_model import export_purified_classifier
from tfpurify.training import trained_parts


def purify_store(options, beam_arguments=()):
    """Runs the pipeline and returns its counts.

    Args:
        options: `trainers.purify`'s flags by name.
        beam_arguments: Beam's own flags.

    Raises:
        ImportError: If Beam is not installed.
        ValueError: If nothing matches the pattern, a name is not UTF-8, there is no bundle of a
            defence or a part of it is not trained, or both or neither are given.
        OSError: If the output folder cannot be written, or another process writes it.
    """
    try:
        from tfpurify.serving import beam_pipeline
    except ImportError as error:
        raise ImportError(
            f'Purifying a store needs Beam: `pip install -e ".[beam]"`. Received: {error}'
        ) from error
    if (options["bundle"] is None) == (options["defense"] is None):
        raise ValueError(
            "Either `bundle` or `defense` must be given. "
            f"Received: bundle={options['bundle']}, defense={options['defense']}"
        )
    claim(require_writable(options["output_dir"]) / ".lock")
    try:
        with tempfile.TemporaryDirectory() as folder:
            bundle = options["bundle"]
            if bundle is None:  # of the runs/ here, which go before the zoo
                place = (options["dataset"], ".", options.get("classifier"))
                trained = trained_parts.load_deployed(options["defense"], *place)
                bundle = export_purified_classifier(trained, folder)
                if options.get("sheet"):
                    _draw(trained, options)
            counts = beam_pipeline.run({**options, "bundle": bundle}, beam_arguments)
    except RuntimeError as error:  # Beam's word for whatever a worker raised
        reason = (str(error).strip().splitlines() or ["unknown"])[-1]
        raise OSError(
            f"The pipeline must end for {options['output_dir']} to be whole. Received: {reason}"
        ) from error
    logging.info("%s: %s", options["output_dir"], json.dumps(counts))
    return counts


def _draw(trained, options):
    """Draws a few images of the data set, and what the purifier makes of them."""
    defence = Defence(
        options["dataset"], options["defense"], "blind", trained.classifier, trained.purifier
    )
    place = (options["data_dir"], options["data_source"])
    images = loading.load_dataset(options["dataset"], "test", *place)
    figure_images(make_sheet(defence, images.batch(8)), options["sheet"])
