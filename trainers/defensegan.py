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

    from tfpurify.evaluation.run_record import evaluate_run
    from tfpurify.purifiers.defensegan import DefenseGAN
    from tfpurify.purifiers.purified_classifier import PurifiedClassifier
    from tfpurify.serving import saved_model
    from tfpurify.training import naming, runner

    run = runner.Run("defensegan", fn_args)
    config, classifier = run.config, run.classifier()
    total_steps = run.total_steps()
    with run.scope(), run.precision():
        model = build_model(config, run.spec, total_steps)
    z = keras.random.normal((8, config["latent_dim"]), seed=config["seed"])
    logs = run.train(model, lambda _: {"generated": model(z)})
    if not run.is_chief:
        run.wait_for_chief()
        return
    model = run.full_precision(model, lambda: build_model(config, run.spec, total_steps))
    run.save(model)
    purifier = DefenseGAN(
        model.generator,
        num_steps=config["num_steps"],
        num_restarts=config["num_restarts"],
        seed=config["seed"],
    )
    purifier.build()
    evaluate_run(run, classifier, purifier, {"purifier": naming.purifier_of("defensegan", config)})
    name = run.name.replace("dcgan", "defensegan").replace("wgan", "defensegan_wgan")
    run.export(saved_model.export_purifier, purifier, name, is_serving=False)
    purified = PurifiedClassifier(purifier, classifier)
    purified.build()
    run.export(saved_model.export_purified_classifier, purified, f"{name}_{config['classifier']}")
    run.summarize(model, logs)


def main():
    """Runs the trainer from the command line."""
    _flags.run("defensegan", run_fn)


if __name__ == "__main__":
    main()
