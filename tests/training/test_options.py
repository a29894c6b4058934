import pytest

from tfpurify import vocabulary
from tfpurify.training import configuration
from tfpurify.training.options import OPTIONS, model_arguments


@pytest.mark.parametrize("dataset", vocabulary.DATASETS)
@pytest.mark.parametrize(
    ("trainer", "given"),
    [(trainer, {}) for trainer in OPTIONS] + [("puvae", {"adversarial": True})],
)
def test_every_preset_is_within_the_table(trainer, given, dataset):
    config = configuration.resolve(trainer, {"dataset": dataset, **given})
    for name, value in config.items():
        if value is not None:
            OPTIONS[trainer][name].check(value)


@pytest.mark.parametrize(
    ("trainer", "name", "value", "need"),
    [
        ("puvae", "classification_labels", "wrong", r"one of \['true', 'random'\]"),
        ("classifier", "optimizer", "adam", r"one of \['adamw', 'sgd'\]"),
        ("puvae", "latent_dim", 0, ">= 1"),
        ("advgan", "alpha", -0.5, ">= 0"),
        ("advgan", "kappa", float("inf"), "finite"),
    ],
)
def test_what_no_flag_would_take_is_refused_of_tfx_too(trainer, name, value, need):
    with pytest.raises(ValueError, match=f"`{name}` must be {need}. Received: {name}={value!r}"):
        configuration.resolve(trainer, {name: value})


def test_a_model_takes_its_arguments_from_the_configuration():
    config = configuration.resolve("defensegan", {"latent_dim": 7})
    assert model_arguments("defensegan", config) == {
        "seed": 0,
        "latent_dim": 7,
        "gan_loss": "dcgan",
        "width": 1,
        "critic_steps": 5,
        "gradient_penalty_weight": 10.0,
    }
    plain = model_arguments("puvae", configuration.resolve("puvae", {}))
    attacked = model_arguments("puvae", configuration.resolve("puvae", {"adversarial": True}))
    assert set(attacked) - set(plain) == {
        "epsilon",
        "epsilon_warmup_steps",
        "attack_steps",
        "attacks_classifier",
        "selection_weight",
        "clean_weight",
    }
