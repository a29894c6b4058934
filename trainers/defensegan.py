"""Trains DefenseGAN's prior: `python -m trainers.defensegan --dataset=mnist`."""

from trainers import _flags


def build_model(config, spec, total_steps):
    """Returns a compiled DCGAN.

    Args:
        config: DCGAN's arguments and `learning_rate` are read.
        spec: The `DatasetSpec`.
        total_steps: Length of the cosine schedule; the Wasserstein loss keeps its step size.
    """
    from tfpurify.models import optimizers
    from tfpurify.purifiers.dcgan import DCGAN
    from tfpurify.training import options, runner

    model = DCGAN(spec.image_shape, **options.model_arguments("defensegan", config))
    model.build()
    if config["gan_loss"] == "wgan-gp":
        adam = {"learning_rate": config["learning_rate"], "beta_1": 0.5, "beta_2": 0.9}
    else:
        adam = {"learning_rate": runner.cosine(config, total_steps), "beta_1": 0.5}
    model.compile(optimizers.Adam(**adam), optimizers.Adam(**adam))
    return model


def run_fn(fn_args):
    """Trains, evaluates and exports; what TFX's Trainer calls."""
    import keras

    from tfpurify.purifiers.defensegan import DefenseGAN
    from tfpurify.serving.run_exports import measure_and_export_purifier
    from tfpurify.training import runner

    run = runner.Run("defensegan", fn_args)
    config, classifier = run.config, run.classifier()
    total_steps = run.total_steps()

    def build():
        return build_model(config, run.spec, total_steps)

    def measure_and_export(model):
        descent = {name: config[name] for name in ("num_steps", "num_restarts", "seed")}
        purifier = DefenseGAN(model.generator, **descent)
        purifier.build()
        name = run.name.replace("dcgan", "defensegan").replace("wgan", "defensegan_wgan")
        measure_and_export_purifier(run, classifier, purifier, name)

    model = run.build_model(build)
    z = keras.random.normal((8, config["latent_dim"]), seed=config["seed"])
    logs = run.train(model, lambda _: {"generated": model(z)})
    run.finish(model, logs, build, measure_and_export)


def main():
    """Runs the trainer from the command line."""
    _flags.run("defensegan", run_fn)


if __name__ == "__main__":
    main()
