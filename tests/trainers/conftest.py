import pytest
from tiny_runs import TINY, make_fn_args


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """An output folder with a classifier, a PuVAE and a DCGAN, each trained for two steps."""
    from trainers import classifier, defensegan, puvae

    folder = tmp_path_factory.mktemp("workshop")
    for trainer, options in (
        (classifier, {}),
        (puvae, {"latent_dim": 4}),
        (defensegan, {"num_steps": 2, "num_restarts": 1}),
    ):
        trainer.run_fn(make_fn_args({**TINY, "output_dir": str(folder), **options}))
    return folder


@pytest.fixture
def dead_layer(monkeypatch):
    """The message at a gradient that dies in the classifier that every trainer is given now."""
    import tensorflow as tf

    from tfpurify.data.specs import get_spec
    from tfpurify.models.classifiers import build_classifier
    from tfpurify.training import trained_parts

    dead = build_classifier("cnn", get_spec("mnist"))
    last = dead.stack.layers[-1]
    last.kernel.assign(tf.zeros_like(last.kernel))
    monkeypatch.setattr(trained_parts, "require_parts", lambda *_: None)
    monkeypatch.setattr(trained_parts, "load_classifier", lambda *_: dead)
    return f"the target must not vanish.* it died in the layer {last.name} of {dead.name}"
