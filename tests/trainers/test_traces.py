"""A training step is traced in its first epoch, and never again."""

import keras
import numpy as np
import pytest

import tfpurify
from tfpurify.training import configuration
from trainers import advgan, classifier, defensegan, encoder, puvae

SPEC = tfpurify.DATASETS["mnist"]
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(12, 28, 28, 1)).astype("float32")
LABELS = RNG.integers(10, size=12)


def config(trainer):
    return configuration.resolve(trainer, {"dataset": "mnist"})


def new_classifier():
    return tfpurify.build_classifier("cnn", SPEC)


def new_generator():
    generator = tfpurify.DCGAN(SPEC.image_shape, latent_dim=4).generator
    generator.build()
    return generator


MAKERS = {
    "classifier": lambda: classifier.build_model(config("classifier"), SPEC, 100),
    "puvae": lambda: puvae.build_model(config("puvae"), SPEC, new_classifier(), 100),
    "dcgan": lambda: defensegan.build_model(config("defensegan"), SPEC, 100),
    "wgan-gp": lambda: defensegan.build_model(
        {**config("defensegan"), "gan_loss": "wgan-gp"}, SPEC, 100
    ),
    "encoder": lambda: encoder.build_model(config("encoder"), SPEC, new_generator(), 100),
    "adversarial puvae": lambda: puvae.build_model(
        configuration.resolve("puvae", {"dataset": "mnist", "adversarial": True}),
        SPEC,
        new_classifier(),
        100,
    ),
    "advgan": lambda: advgan.build_model(config("advgan"), SPEC, new_classifier(), None, 100),
}


class CountTraces(keras.callbacks.Callback):
    """How often Python has run a model's `train_step` when each epoch ends."""

    def __init__(self, model):
        super().__init__()
        self.count, self.by_epoch = 0, []
        step = model.train_step

        def train_step(data):
            self.count += 1
            return step(data)

        model.train_step = train_step

    def on_epoch_end(self, epoch, logs=None):
        self.by_epoch.append(self.count)


@pytest.mark.parametrize("name", MAKERS)
def test_no_step_is_traced_after_the_first_epoch(name):
    keras.utils.set_random_seed(0)
    model = MAKERS[name]()
    traces = CountTraces(model)
    model.fit(IMAGES, LABELS, batch_size=4, epochs=3, callbacks=[traces], verbose=0)
    assert 1 <= traces.by_epoch[0] == traces.by_epoch[-1]


def test_the_projector_is_traced_once_for_all_batch_sizes():
    purifier = tfpurify.DefenseGAN(new_generator(), num_steps=2, num_restarts=2)
    counts = []
    for size in (4, 3, 5, 1, 2, 6):
        purifier(IMAGES[:size])
        counts.append(purifier._project.experimental_get_tracing_count())
    assert counts[-1] == counts[1] <= 2
