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
