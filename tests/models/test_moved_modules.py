"""Files that were saved when the modules lay elsewhere still load."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tfpurify import load_model
from tfpurify.models import zoo

SAVED = Path(__file__).parent / "saved_before_the_move"
CLASSES = {
    "adversarial_puvae": "AdversarialPuVAE",
    "advgan": "AdvGAN",
    "advgan_through_purifier": "AdvGAN",
    "classifier": "CNN",
    "dcgan": "DCGAN",
    "defensegan": "DefenseGAN",
    "distiller": "Distiller",
    "dynamic_advgan": "DynamicAdvGAN",
    "fast_defensegan": "DefenseGAN",
    "latent_encoder": "LatentEncoder",
    "purified_classifier": "PurifiedClassifier",
    "puvae": "PuVAE",
    "wgan": "DCGAN",
}


@pytest.mark.parametrize("name", CLASSES)
def test_loads_whole(name):
    model = load_model(SAVED / f"{name}.keras")
    assert type(model).__name__ == CLASSES[name]
    floats = [v for v in model.weights if keras.backend.is_float_dtype(v.dtype)]
    assert floats
    for variable in floats:  # each was saved full of this value
        np.testing.assert_array_equal(variable, np.full(variable.shape, 0.125, "float32"))


def test_every_kind_was_saved():
    assert {path.stem for path in SAVED.glob("*.keras")} == set(CLASSES)


@pytest.mark.parametrize("name", zoo.available())
def test_every_shipped_file_loads(name):
    model = zoo.load_preset(name)
    assert model.built
    assert type(model).__name__ == zoo.describe(name)["class_name"]
