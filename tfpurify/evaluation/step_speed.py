"""How long a training step takes here, measured on a few, before a training is planned."""

import time

import keras

from tfpurify.attacks.advgan import AdvGAN
from tfpurify.data import loading
from tfpurify.purifiers.adversarial_puvae import AdversarialPuVAE
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.latent_encoder import LatentEncoder
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.training import configuration, options

_STEPS = 3


def seconds_per_step(trainer, given, target):
    """Returns the seconds that one step of a trainer takes on this machine.

    Args:
        trainer: `puvae`, `defensegan`, `encoder` or `advgan`.
        given: Its options by flag name, `dataset` among them.
        target: What the model is trained before or against: images -> logits.
    """
    config = configuration.resolve(trainer, given)
    spec = loading.get_spec(config["dataset"])
    arguments = options.model_arguments(trainer, config)
    before = keras.config.dtype_policy()
    try:
        if config["mixed_precision"]:
            keras.config.set_dtype_policy("mixed_bfloat16")
        model = _model(trainer, config, spec, arguments, target)
    finally:
        keras.config.set_dtype_policy(before)
    batches, _ = loading.training_batches(
        config["dataset"],
        config["batch_size"],
        config["seed"],
        epochs=1,
        augment=config.get("augment"),
        data_dir=config["data_dir"],
        source=config["data_source"],
        steps_per_epoch=1 + _STEPS,
    )
    batches = batches.take(1 + _STEPS).cache()
    model.fit(batches, shuffle=False, verbose=0)  # traces the graph, and fills the cache
    started = time.monotonic()
    model.fit(batches, shuffle=False, verbose=0)
    return (time.monotonic() - started) / (1 + _STEPS)


def _model(trainer, config, spec, arguments, target):
    if trainer == "puvae":
        make = AdversarialPuVAE if config["adversarial"] else PuVAE
        model = make(spec.image_shape, num_classes=spec.num_classes, classifier=target, **arguments)
    elif trainer == "advgan":
        model = AdvGAN(spec.image_shape, target, **arguments)
    elif trainer == "defensegan":
        model = DCGAN(spec.image_shape, **arguments)
    else:
        prior = DCGAN(spec.image_shape, width=config["width"])
        prior.build()
        model = LatentEncoder(spec.image_shape, generator=prior.generator, **arguments)
    model.build()
    optimizers = ["adam", "adam"] if trainer in ("advgan", "defensegan") else ["adam"]
    model.compile(*optimizers)
    return model
