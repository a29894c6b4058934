"""How a finished run comes into the zoo: what is stored of its model, and what is said of it."""

import json

import numpy as np
import tensorflow as tf
from absl import logging

from tfpurify import provenance
from tfpurify.attacks.advgan import AdvGAN
from tfpurify.data import loading
from tfpurify.models import zoo
from tfpurify.models.classifiers import Classifier
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.latent_encoder import LatentEncoder
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.training import naming, run_folder

_KINDS = {"classifier": "classifier", "puvae": "puvae", "defensegan": "dcgan"}
_KINDS |= {"encoder": "encoder", "advgan": "advgan"}
_NUM_IMAGES = 64


def publish_run(run, name=None, zoo_dir=None, note=None):
    """Adds a finished run to the zoo and compares what the zoo gives back.

    Args:
        run: The run's folder.
        name: Name in the zoo; the run's if None.
        zoo_dir: The zoo's folder; the repository's if None.
        note: What the command does not say of how it was made.

    Returns:
        The zoo's entry.

    Raises:
        ValueError: If the run is not finished.
    """
    folder = run_folder.finished_run(run)
    config, summary = (
        json.loads((folder / file).read_text(encoding="utf-8"))
        for file in ("config.json", "summary.json")
    )
    model = zoo.load_model(folder / "model.keras", compile=False)
    name = name or summary["name"]
    measured = naming.measured_as(summary["trainer"], config)
    entry = zoo.save(
        inference_model(model),
        name,
        zoo_dir,
        kind=_KINDS[summary["trainer"]],
        dataset=summary["dataset"],
        command=provenance.portable_command(summary["command"]),
        seed=summary["seed"],
        validation=summary["validation"],
        gradient_mode=measured.get("gradient_mode"),
        wall_seconds=summary["wall_seconds"],
        cpu_seconds=summary.get("cpu_seconds"),
        resumed_after_epoch=summary.get("resumed_after_epoch"),
        data_source=config["source"],
        note=note,
        measured_as=measured,
    )
    difference = _compare(model, zoo.load_preset(name, zoo_dir), summary["dataset"])
    logging.info("%s is in the zoo: %d bytes, %s", name, entry["bytes"], difference)
    logging.info("Its card: python -m tfpurify.report")
    return entry


def inference_model(model):
    """Returns what the zoo stores: the model without the frozen classifier or target.

    Args:
        model: A trained `PuVAE`, `AdvGAN` or `DynamicAdvGAN`, or any other, returned as it is.
    """
    config = model.get_config()
    if isinstance(model, AdvGAN):
        model_class, dropped = AdvGAN, ("target", "evaluation_target", "surrogate", "black_box")
    elif isinstance(model, PuVAE):
        model_class, dropped = type(model), ("classifier",)
    elif isinstance(model, LatentEncoder):
        model_class, dropped = LatentEncoder, ("generator",)
    else:
        return model
    # A surrogate is a `DynamicAdvGAN`'s name for its target; the plain class has no such argument.
    kept = {name: value for name, value in config.items() if name not in dropped}
    copy = model_class(**kept)
    copy.build()
    for layer in copy.layers:
        layer.set_weights(getattr(model, _attribute(copy, layer)).get_weights())
    if isinstance(model, LatentEncoder):
        copy.preconditioner.assign(model.preconditioner)
    return copy


def _attribute(model, layer):
    return next(name for name, value in vars(model).items() if value is layer)


def _compare(model, stored, dataset):
    """Returns in words how far the zoo's copy is from the trained model, on embedded images."""
    if isinstance(model, DCGAN):
        inputs = tf.random.stateless_normal((_NUM_IMAGES, model.latent_dim), seed=[0, 0])
    else:
        inputs = _embedded_images(dataset)
    before, after = np.asarray(model(inputs)), np.asarray(stored(inputs))
    if isinstance(model, Classifier):
        changed = np.mean(before.argmax(axis=1) != after.argmax(axis=1))
        return f"{100 * changed:.1f} % of {_NUM_IMAGES} labels changed by its storage"
    difference = np.abs(before - after)
    return (
        f"storage changes {_NUM_IMAGES} images by at most {difference.max():.4f}, "
        f"{difference.mean():.5f} on average"
    )


def _embedded_images(dataset):
    images, _ = next(
        iter(loading.load_dataset(dataset, "test", source="embedded").batch(_NUM_IMAGES))
    )
    return images
