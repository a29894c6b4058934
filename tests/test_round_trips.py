"""Every public model is saved whole, and loads and goes on in a process that has seen none of it.

Run as a program, this file is that process: it loads what it finds in a folder and writes down what
it sees. It imports the package's lazy names only, so each class comes from the `.keras` file alone.
"""

import dataclasses
import os
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

import tfpurify

SHAPE = (8, 8, 1)
DIGIT_SHAPE = (28, 28, 1)
OPTIMIZERS = (
    *("optimizer", "generator_optimizer", "discriminator_optimizer"),
    "surrogate_optimizer",
)
RNG = np.random.default_rng(0)
LABELS = np.array([3, 1, 4, 1])
INPUTS = {
    "small": RNG.uniform(size=(4, *SHAPE)).astype("float32"),
    "digit": RNG.uniform(size=(4, *DIGIT_SHAPE)).astype("float32"),
}
Z = RNG.normal(size=(4, 4)).astype("float32")


def linear(shape):
    import keras

    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(10)]
    return keras.Sequential(layers)


def adams(count):
    import keras

    return [keras.optimizers.Adam(1e-3) for _ in range(count)]


def make_classifier():
    from keras import losses

    classifier = tfpurify.build_classifier("cnn", tfpurify.DATASETS["mnist"])
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(*adams(1), loss, metrics=["accuracy"])
    return classifier


def make_puvae():
    spec = dataclasses.replace(tfpurify.DATASETS["mnist"], image_shape=SHAPE)
    classifier = tfpurify.build_classifier("cnn", spec)
    model = tfpurify.PuVAE(SHAPE, latent_dim=4, classifier=classifier)
    model.build()
    model.compile(*adams(1))
    return model


def make_dcgan(**kwargs):
    model = tfpurify.DCGAN(DIGIT_SHAPE, latent_dim=4, **kwargs)
    model.build()
    model.compile(*adams(2))
    return model


def make_wgan():
    return make_dcgan(gan_loss="wgan-gp", critic_steps=1)


def make_defensegan():
    dcgan = tfpurify.DCGAN(DIGIT_SHAPE, latent_dim=4)
    model = tfpurify.DefenseGAN(dcgan.generator, num_steps=2, num_restarts=2, seed=5)
    model.build()
    return model


def make_latent_encoder():
    model = tfpurify.LatentEncoder(
        DIGIT_SHAPE, 4, tfpurify.DCGAN(DIGIT_SHAPE, latent_dim=4).generator, filters=(8,), units=16
    )
    model.build()
    model.compile(*adams(1))
    return model


def make_fast_defensegan():
    encoder = make_latent_encoder()
    model = tfpurify.DefenseGAN(encoder.generator, encoder, num_steps=2, num_restarts=2)
    model.build()
    return model


def make_purified_classifier():
    purifier = tfpurify.PuVAE(SHAPE, latent_dim=4)
    model = tfpurify.PurifiedClassifier(purifier, linear(SHAPE), "soft", temperature=0.02)
    model.build()
    return model


def make_advgan():
    model = tfpurify.AdvGAN(
        DIGIT_SHAPE, linear(DIGIT_SHAPE), epsilon=0.3, bottleneck_channels=8, width=4
    )
    model.build()
    model.compile(*adams(2))
    return model


def make_advgan_through_purifier():
    target = tfpurify.PurifiedClassifier(make_defensegan(), linear(DIGIT_SHAPE), "bpda")
    model = tfpurify.AdvGAN(DIGIT_SHAPE, target, bottleneck_channels=8, width=4)
    model.build()
    model.compile(*adams(2))
    return model


def make_distiller():
    model = tfpurify.Distiller(linear(DIGIT_SHAPE), linear(DIGIT_SHAPE))
    model.build()
    model.compile(*adams(1))
    return model


def make_dynamic_advgan():
    model = tfpurify.DynamicAdvGAN(
        DIGIT_SHAPE, linear(DIGIT_SHAPE), linear(DIGIT_SHAPE), bottleneck_channels=8, width=4
    )
    model.build()
    model.compile(*adams(3))
    return model


# In an order in which every class is first named by a file of its own.
MAKERS = {
    "classifier": (make_classifier, "digit"),
    "puvae": (make_puvae, "small"),
    "dcgan": (make_dcgan, "digit"),
    "wgan": (make_wgan, "digit"),
    "defensegan": (make_defensegan, "digit"),
    "latent_encoder": (make_latent_encoder, "digit"),
    "fast_defensegan": (make_fast_defensegan, "digit"),
    "purified_classifier": (make_purified_classifier, "small"),
    "advgan": (make_advgan, "digit"),
    "advgan_through_purifier": (make_advgan_through_purifier, "digit"),
    "distiller": (make_distiller, "digit"),
    "dynamic_advgan": (make_dynamic_advgan, "digit"),
}
BORROWED_AS = {"black_box": "evaluation_target"}
TRAINED = [
    name for name in MAKERS if name not in ("defensegan", "fast_defensegan", "purified_classifier")
]


def describe(name, model):
    """Returns all that a model holds and does, as arrays; at last it takes one more step."""
    images = INPUTS[MAKERS[name][1]]
    seen = {"output": model(Z if name in ("dcgan", "wgan") else images)}
    seen["trainable"] = np.array([len(model.trainable_variables), len(model.weights)])
    seen |= {f"weight {i}": value for i, value in enumerate(model.get_weights())}
    for optimizer in OPTIMIZERS:
        variables = getattr(getattr(model, optimizer, None), "variables", [])
        seen |= {f"{optimizer} {i}": value.numpy() for i, value in enumerate(variables)}
    if name in TRAINED:
        model.reset_metrics()
        logs = model.train_step((images, LABELS))
        seen |= {f"step {key}": value for key, value in logs.items()}
    return {key: np.asarray(value) for key, value in seen.items()}


def lend(name, model):
    """Gives a loaded model what its file only names, made again from the same seed."""
    import keras

    references = getattr(model, "references", {})
    keras.utils.set_random_seed(0)
    again = MAKERS[name][0]() if references else None
    for argument, reference in references.items():
        lent = getattr(again, argument)
        assert getattr(model, argument) is None and reference["name"]
        setattr(model, BORROWED_AS.get(argument, argument), lent)


def load_all(folder):
    models = {}
    for name in MAKERS:
        try:
            models[name] = tfpurify.load_model(folder / f"{name}.keras")
        except Exception:  # the other models are to be seen too
            (folder / f"{name}.txt").write_text(traceback.format_exc())
    for name, model in models.items():
        try:
            lend(name, model)
            np.savez(folder / f"{name}.npz", **describe(name, model))
        except Exception:  # the other models are to be seen too
            (folder / f"{name}.txt").write_text(traceback.format_exc())


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What this process sees in each model, and a function that tells what another sees."""
    import keras

    folder = tmp_path_factory.mktemp("round_trips")
    seen = {}
    for name, (make, size) in MAKERS.items():
        keras.utils.set_random_seed(0)
        model = make()
        if name in TRAINED:
            for _ in range(2):
                model.train_step((INPUTS[size], LABELS))
        model.save(folder / f"{name}.keras")
        seen[name] = describe(name, model)
    arguments = [sys.executable, str(Path(__file__).resolve()), str(folder)]
    root = str(Path(tfpurify.__file__).parents[1])
    finished = subprocess.run(
        arguments,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert finished.returncode == 0, finished.stderr

    def read(name):
        error = folder / f"{name}.txt"
        if error.exists():
            pytest.fail(error.read_text())
        with np.load(folder / f"{name}.npz") as arrays:
            return dict(arrays)

    return seen, read


@pytest.mark.parametrize("name", MAKERS)
def test_loads_whole_in_a_fresh_process(loaded, name):
    seen, read = loaded
    before, after = seen[name], read(name)
    assert set(after) == set(before)
    for key in before:
        if key.startswith(("weight", *OPTIMIZERS)) or key == "trainable":
            np.testing.assert_array_equal(after[key], before[key], err_msg=key)
    np.testing.assert_allclose(after["output"], before["output"], atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_brings_the_state_of_every_optimizer(loaded, name):
    _, read = loaded
    state = {key: value for key, value in read(name).items() if key.startswith(OPTIMIZERS)}
    iterations = [value for value in state.values() if value.dtype.kind in "iu"]
    assert iterations and all(value == 2 for value in iterations)
    moments = [value for value in state.values() if value.ndim > 1]
    assert moments and all(np.any(value != 0) for value in moments)


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "classifier"])
def test_takes_the_step_that_it_would_have_taken(loaded, name):
    # The classifier's dropout draws anew: the state of a seed is not among a model's weights.
    seen, read = loaded
    before, after = seen[name], read(name)
    steps = [key for key in before if key.startswith("step")]
    assert steps
    for key in steps:
        np.testing.assert_allclose(after[key], before[key], rtol=1e-3, atol=1e-4, err_msg=key)


if __name__ == "__main__":
    load_all(Path(sys.argv[1]))
