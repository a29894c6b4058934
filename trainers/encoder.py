"""Trains the start of DefenseGAN's fast projector: `python -m trainers.encoder --dataset=mnist`."""

from trainers import _flags


def build_model(config, spec, generator, total_steps):
    """Returns a compiled LatentEncoder.

    Args:
        config: LatentEncoder's arguments and `learning_rate` are read.
        spec: The `DatasetSpec`.
        generator: The trained generator of the prior, frozen.
        total_steps: Length of the cosine schedule.
    """
    from tfpurify.models import optimizers
    from tfpurify.purifiers.latent_encoder import LatentEncoder
    from tfpurify.training import options, runner

    model = LatentEncoder(
        spec.image_shape,
        generator.latent_dim,
        generator=generator,
        **options.model_arguments("encoder", config),
    )
    model.build()
    model.compile(optimizer=optimizers.Adam(runner.cosine(config, total_steps)))
    return model


def run_fn(fn_args):
    """Trains, evaluates and exports; what TFX's Trainer calls."""
    from tfpurify.evaluation.run_record import evaluate_run
    from tfpurify.purifiers.defensegan import DefenseGAN
    from tfpurify.purifiers.purified_classifier import PurifiedClassifier
    from tfpurify.serving import saved_model
    from tfpurify.training import naming, runner, trained_parts

    run = runner.Run("encoder", fn_args)
    config, classifier = run.config, run.classifier()
    prior = trained_parts.prior_part(config)
    generator = trained_parts.load_part(prior, run.output_dir).generator
    total_steps = run.total_steps()
    with run.scope(), run.precision():
        model = build_model(config, run.spec, run.in_scope(generator), total_steps)

    def image_row(images):
        return {"projected": generator(model.encode(images, generator))}

    logs = run.train(model, image_row)
    if not run.is_chief:
        run.wait_for_chief()
        return
    model = run.full_precision(model, lambda: build_model(config, run.spec, generator, total_steps))
    model.fit_preconditioner()
    run.save(model)
    purifier = DefenseGAN(generator, model, seed=config["seed"])
    purifier.build()
    evaluate_run(run, classifier, purifier, {"purifier": naming.purifier_of("encoder", config)})
    run.export(saved_model.export_purifier, purifier, f"{run.name}_purifier", is_serving=False)
    purified = PurifiedClassifier(purifier, classifier)
    purified.build()
    run.export(
        saved_model.export_purified_classifier, purified, f"{run.name}_{config['classifier']}"
    )
    run.summarize(model, logs)


def main():
    """Runs the trainer from the command line."""
    _flags.run("encoder", run_fn)


if __name__ == "__main__":
    main()
