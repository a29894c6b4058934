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
    from tfpurify.models.copies import frozen_part
    from tfpurify.purifiers.defensegan import DefenseGAN
    from tfpurify.serving.run_exports import measure_and_export_purifier
    from tfpurify.training import runner, trained_parts

    run = runner.Run("encoder", fn_args)
    config, classifier = run.config, run.classifier()
    prior = trained_parts.prior_part(config)
    generator = trained_parts.load_part(prior, run.output_dir).generator
    total_steps = run.total_steps()

    def build():
        part = frozen_part(generator, is_in_precision=False)
        return build_model(config, run.spec, part, total_steps)

    def image_row(images):
        return {"projected": generator(model.encode(images, generator))}

    def measure_and_export(model):
        purifier = DefenseGAN(generator, model, seed=config["seed"])
        purifier.build()
        measure_and_export_purifier(run, classifier, purifier, purifier_name=f"{run.name}_purifier")

    model = run.build_model(build)
    logs = run.train(model, image_row)
    run.finish(model, logs, build, measure_and_export, lambda model: model.fit_preconditioner())


def main():
    """Runs the trainer from the command line."""
    _flags.run("encoder", run_fn)


if __name__ == "__main__":
    main()
