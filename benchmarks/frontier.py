"""Accuracy under attack against time: `python -m benchmarks.frontier --json=FILE`.

Every point is one purifier in front of one classifier, on the same test images and the same blind
AdvGAN; its time is that of the whole graph, for batches and for one image at a time.
"""

from absl import flags

from benchmarks import _options
from trainers import _flags

DATASETS = ("mnist", "fashion_mnist")
BATCH_SIZE = 64
NUM_STEPS = (25, 50, 100, 200)
NUM_RESTARTS = (1, 4, 10)
FAST = ((5, 1), (10, 2), (20, 2), (40, 4))


def define_flags():
    """Defines what this benchmark has beside the common flags."""
    _options.define_data_dir()
    flags.DEFINE_integer("num_images", 192, "Test images, whole batches of 64.", lower_bound=64)
    flags.DEFINE_integer("single_images", 20, "Images timed one by one.", lower_bound=5)


def purifiers(dataset):
    """Yields `(name, settings, purifier)` of every point; the purifier is None for none."""
    import tfpurify

    yield "none", {}, None
    yield "puvae", {}, tfpurify.PuVAE.from_preset(f"puvae_{dataset}")
    fast = tfpurify.DefenseGAN.from_preset(f"dcgan_{dataset}", projector="fast")
    for steps, restarts in FAST:
        settings = {"num_steps": steps, "num_restarts": restarts}
        yield (
            "defensegan_fast",
            settings,
            tfpurify.DefenseGAN(fast.generator, fast.encoder, **settings),
        )
    for steps in NUM_STEPS:
        for restarts in NUM_RESTARTS:
            settings = {"num_steps": steps, "num_restarts": restarts}
            yield "defensegan", settings, tfpurify.DefenseGAN(fast.generator, **settings)


def point(purifier, classifier, batches, options):
    """Returns rates and times of one purifier.

    Args:
        purifier: Images -> images, or None.
        classifier: Images -> logits.
        batches: `(images, adversarial images, labels)`, in memory.
        options: The flags by name.
    """
    import numpy as np
    import tensorflow as tf

    from benchmarks import _measure

    target = tf.function(
        lambda images: classifier(images if purifier is None else purifier(images), training=False)
    )
    right, seconds = {"clean": [], "adversarial": []}, []
    target(batches[0][0])
    for images, adversarial_images, labels in batches:
        for kind, inputs in (("clean", images), ("adversarial", adversarial_images)):
            logits = []
            calls = {"whole": lambda inputs=inputs, logits=logits: logits.append(target(inputs))}
            seconds += _measure.in_turn(calls, rounds=1, warm_up=0)["whole"]
            right[kind].append(np.argmax(logits[0], axis=1) == labels)
    clean, adversarial = (np.concatenate(right[kind]) for kind in ("clean", "adversarial"))
    image = batches[0][0]
    single = [
        _measure.in_turn({"whole": lambda i=i: target(image[i : i + 1])}, 1, warm_up=i == 0)
        for i in range(options["single_images"])
    ]
    batched = _measure.spread([1e3 * value / BATCH_SIZE for value in seconds])
    alone = _measure.spread([1e3 * one["whole"][0] for one in single])
    return {
        "n": len(clean),
        "accuracy": float(clean.mean()),
        "robust_accuracy": float(adversarial.mean()),
        "attack_success_rate": float((~adversarial[clean]).mean()),
        "ms_per_image": batched["median"],
        "single_image_ms": alone["median"],
        "spread": {"ms_per_image": batched, "single_image_ms": alone},
    }


def measure(options):
    """Measures every point of every data set."""
    from absl import logging

    import tfpurify
    from benchmarks import _measure
    from tfpurify.models import zoo

    points = []
    for dataset in DATASETS:
        classifier = tfpurify.Classifier.from_preset(f"cnn_{dataset}")
        attack = zoo.load_preset(f"advgan_{dataset}_whitebox_none")
        stream = tfpurify.load_dataset(dataset, "test", options["data_dir"])
        batches = [
            (images, attack(images), labels.numpy())
            for images, labels in stream.take(options["num_images"]).batch(
                BATCH_SIZE, drop_remainder=True
            )
        ]
        for name, settings, purifier in purifiers(dataset):
            found = point(purifier, classifier, batches, options)
            points.append({"dataset": dataset, "purifier": name, "settings": settings, **found})
            logging.info("%s", points[-1])
    conditions = {name: options[name] for name in ("num_images", "single_images")}
    _measure.write(
        options["json"],
        {"points": points},
        attack="advgan, blind",
        epsilon=0.2,
        batch_size=BATCH_SIZE,
        seed=0,  # DefenseGAN's starts
        data_source=_options.data_source(DATASETS[0], options),
        **conditions,
    )


def main():
    """Runs the command line."""
    _flags.run_app(_options.define(define_flags), measure)


if __name__ == "__main__":
    main()
