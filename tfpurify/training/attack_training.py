"""What a training of AdvGAN needs beside its model: what it climbs, and where it starts."""

from tfpurify.attacks.distillation import Distiller
from tfpurify.models.classifiers import build_classifier
from tfpurify.models.optimizers import Adam
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.training import runner


def training_target(run, classifier, purifier):
    """Returns what the attacker differentiates; through DefenseGAN with a shortened descent."""
    config = run.config
    if purifier is None or not config["whitebox"]:
        return classifier
    if isinstance(purifier, DefenseGAN):
        purifier = DefenseGAN(
            purifier.generator,
            purifier.encoder,
            num_steps=config["num_steps"],
            num_restarts=config["num_restarts"],
            chunk_size=config["batch_size"],
        )
    return PurifiedClassifier(
        purifier, classifier, config["gradient_mode"], soft_candidates=config["soft_candidates"]
    )


def distil(run, black_box):
    """Returns a surrogate that was taught the black box's outputs."""
    epochs = run.config["distillation_epochs"]
    schedule = runner.cosine(run.config, run.total_steps(epochs))
    with run.scope():
        distiller = Distiller(build_classifier(run.config["surrogate"], run.spec), black_box)
        distiller.build()
        distiller.compile(optimizer=Adam(schedule))
    run.train(distiller, stage="surrogate", passes=epochs)
    return distiller.surrogate


def take_weights(model, trained):
    """Starts an attack from a trained one."""
    model.generator.set_weights(trained.generator.get_weights())
    model.discriminator.set_weights(trained.discriminator.get_weights())


def image_row(model, purifier, epsilon):
    """Returns what draws an attack each epoch: images -> perturbed, attacked, purified, by name."""

    def draw(images):
        adversarial_images = model(images)
        row = {
            "perturbation": 0.5 + (adversarial_images - images) / (2.0 * epsilon),
            "adversarial": adversarial_images,
        }
        if purifier is not None:
            row["purified"] = purifier(adversarial_images)
        return row

    return draw
