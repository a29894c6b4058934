"""Puts a finished run into the zoo: `python -m trainers.publish --run=runs/cnn_mnist`."""

import json
from pathlib import Path

from absl import flags, logging

from tfpurify import provenance
from tfpurify.training import naming
from trainers import _flags

_KINDS = {"classifier": "classifier", "puvae": "puvae", "defensegan": "dcgan"}
_KINDS |= {"encoder": "encoder", "advgan": "advgan"}
_NUM_IMAGES = 64


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    flags.DEFINE_string("run", None, "Folder of the finished run: runs/NAME.")
    flags.DEFINE_string("name", None, "Name in the zoo; the run's if not given.")
    flags.DEFINE_string("note", None, "What the command does not say of how it was made.")
    flags.DEFINE_string("zoo_dir", None, "The zoo's folder; the repository's if not given.")
    return set(flags.FLAGS) - before


def inference_model(model):
    """Returns what the zoo stores: the model without the frozen classifier or target.

    Args:
        model: A trained `PuVAE`, `AdvGAN` or `DynamicAdvGAN`, or any other, returned as it is.
    """
    from tfpurify.attacks.advgan import AdvGAN
    from tfpurify.purifiers.latent_encoder import LatentEncoder
    from tfpurify.purifiers.puvae import PuVAE

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


def publish(options):
    """Adds a finished run to the zoo and compares what the zoo gives back.

    Args:
        options: The flags by name.

    Returns:
        The zoo's entry.

    Raises:
        ValueError: If the run is not finished.
    """
    from tfpurify.models import zoo

    folder = finished_run(options["run"])
    config, summary = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("config.json", "summary.json")
    )
    model = zoo.load_model(folder / "model.keras", compile=False)
    name = options["name"] or summary["name"]
    measured = measured_as(summary["trainer"], config)
    entry = zoo.save(
        inference_model(model),
        name,
        options["zoo_dir"],
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
        note=options.get("note"),
        measured_as=measured,
    )
    stored = zoo.load_preset(name, options["zoo_dir"])
    difference = compare(model, stored, summary["dataset"])
    logging.info("%s is in the zoo: %d bytes, %s", name, entry["bytes"], difference)
    logging.info("Its card and its line among the presets: python -m tfpurify.report")
    return entry


def measured_as(trainer, config):
    """Returns the record's fields that tell in which records a model took part."""
    if trainer == "classifier":
        return {"classifier": config["classifier"], "purifier": "none"}
    if trainer != "advgan":
        return {"purifier": naming.purifier_of(trainer, config)}
    fields = {
        **{name: config[name] for name in ("classifier", "epsilon", "seed")},
        "attack": naming.attack_name(config),
    }
    threat_model = naming.threat_model(config)
    if threat_model == "whitebox" and config["defense"] == "none":
        # The attack on the bare classifier is also the blind one behind every purifier.
        return {**fields, "gradient_mode": None}
    mode = config["gradient_mode"] if threat_model == "whitebox" else None
    return {
        **fields,
        "threat_model": threat_model,
        "purifier": config["defense"],
        "gradient_mode": mode,
    }


def finished_run(run):
    """Returns the folder of a finished run; raises ValueError if it is none."""
    if not run:
        raise ValueError("`run` must be a run's folder, runs/NAME. Received: nothing")
    folder = Path(run)
    missing = [
        name
        for name in ("config.json", "summary.json", "model.keras")
        if not (folder / name).exists()
    ]
    if missing:
        raise ValueError(f"`run` must be a finished run. Received: {run} without {missing}")
    return folder


def compare(model, stored, dataset):
    """Returns in words how far the zoo's copy is from the trained model, on embedded images."""
    import numpy as np
    import tensorflow as tf

    from tfpurify.models.classifiers import Classifier
    from tfpurify.purifiers.dcgan import DCGAN

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
    from tfpurify.data import loading

    images, _ = next(
        iter(loading.load_dataset(dataset, "test", source="embedded").batch(_NUM_IMAGES))
    )
    return images


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), publish)


if __name__ == "__main__":
    main()
