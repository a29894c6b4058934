"""What larger images cost: `python -m benchmarks.image_sizes --json=benchmarks/image_sizes.json`.

Each model is measured in a process of its own, for its peak memory. The README's table is made from
the file: `--readme=README.md` writes it there.
"""

import json
import subprocess
import sys
from pathlib import Path

from absl import flags

from benchmarks import _options
from trainers import _flags

SIDES, CLASSES, BATCH, STEPS = (32, 64, 128), 10, 32, 6
HEADER = (
    "Image",
    "PuVAE: weights",
    "training (bfloat16)",
    "purifying",
    "peak memory",
    "DCGAN: training",
)
_ONE = """
import json, resource, sys, time
import keras, numpy as np, tensorflow as tf
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.puvae import PuVAE
kind, side, policy, classes, batch, steps = json.loads(sys.argv[1])
shape = (side, side, 3)
layers = [keras.layers.Conv2D(f, 3, 2, activation="relu") for f in (32, 64)]
layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(classes)]
classifier = keras.Sequential([keras.Input(shape), *layers])
keras.config.set_dtype_policy(policy)
rng = np.random.default_rng(0)
images = rng.uniform(size=(batch * steps, *shape)).astype("float32")
batches = tf.data.Dataset.from_tensor_slices((images, np.arange(len(images)) % classes))
batches = batches.batch(batch).cache()
if kind == "puvae":
    model = PuVAE(shape, classes, 100, classifier, batch_normalization=True)
    optimizers = ["adam"]
else:
    model, optimizers = DCGAN(shape), ["adam", "adam"]
model.build()
model.compile(*optimizers)
model.fit(batches, verbose=0)
started = time.perf_counter()
model.fit(batches, verbose=0)
found = {"training_images_per_second": len(images) / (time.perf_counter() - started)}
found["weight_bytes"] = sum(4 * int(tf.size(weight)) for weight in model.weights)
if kind == "puvae":
    purify = tf.function(model.call)
    for _ in range(2):
        started = time.perf_counter()
        np.asarray(purify(images[:batch]))
    found["purifying_ms"] = 1000 * (time.perf_counter() - started) / batch
found["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(found))
"""


def define_flags():
    """Defines what this benchmark has beside the common flags."""
    flags.DEFINE_string("readme", None, "File whose table of sizes is updated.")


def measure(options):
    """Measures each model at each size."""
    from benchmarks import _measure

    results = {
        f"{kind} {side} {policy}": _one(kind, side, policy)
        for kind, policies in (("puvae", ("float32", "mixed_bfloat16")), ("dcgan", ("float32",)))
        for policy in policies
        for side in SIDES
    }
    conditions = {"classes": CLASSES, "batch": BATCH, "steps": STEPS}
    _measure.write(options["json"], results, seed=0, data_source=None, **conditions)
    if options["readme"]:
        path = Path(options["readme"])
        path.write_text(with_table(path.read_text(encoding="utf-8"), results), encoding="utf-8")


def _one(kind, side, policy):
    arguments = json.dumps([kind, side, policy, CLASSES, BATCH, STEPS])
    finished = subprocess.run(
        [sys.executable, "-c", _ONE, arguments], check=False, capture_output=True, text=True
    )
    if finished.returncode:
        raise ValueError(f"{arguments} must be measured. Received: {finished.stderr[-500:]}")
    return json.loads(finished.stdout.strip().splitlines()[-1])


def table(results):
    """Returns the README's table as lines of Markdown.

    Args:
        results: What `measure` found, by kind, side and precision.
    """
    lines = [f"| {' | '.join(HEADER)} |", f"| {' | '.join(['---'] * len(HEADER))} |"]
    for side in SIDES:
        puvae, reduced = (results[f"puvae {side} {p}"] for p in ("float32", "mixed_bfloat16"))
        cells = [
            f"{side} x {side} x 3",
            f"{puvae['weight_bytes'] / 1e6:.0f} MB",
            f"{puvae['training_images_per_second']:.0f} images/s "
            f"({reduced['training_images_per_second']:.0f})",
            f"{puvae['purifying_ms']:.1f} ms",
            f"{puvae['peak_bytes'] / 1e9:.1f} GB",
            f"{results[f'dcgan {side} float32']['training_images_per_second']:.0f} images/s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def with_table(text, results):
    """Returns a README's text with the table in place of the one that it holds.

    Raises:
        ValueError: If it holds none.
    """
    lines, new = text.split("\n"), table(results)
    if new[0] not in lines:
        raise ValueError(f"The file must hold the table whose first line is {new[0]}")
    start = lines.index(new[0])
    end = start
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    return "\n".join([*lines[:start], *new, *lines[end:]])


def main():
    """Runs the command line."""
    _flags.run_app(_options.define(define_flags), measure)


if __name__ == "__main__":
    main()
