"""What survives: `python -m benchmarks.faults`.

Kills trainings, damages files, fills a disk, races two processes and feeds malformed inputs to
every entrance, and counts what came of it. A count of wrong endings stands beside each; all must
be 0.
Needs the extra `test`; the full disk and the read-only one need root, on Linux.
"""

import contextlib
import os
import random
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from absl import flags, logging

from benchmarks import _options
from trainers import _flags

_TRAINERS = ("classifier", "puvae", "defensegan", "encoder", "advgan")
_MEGABYTES = (0.05, 0.5, 2, 3, 4, 5, 7, 10)  # of disk; a whole run takes about 15


def define_flags():
    """Defines what this benchmark has beside the common flags."""
    flags.DEFINE_list("only", None, f"Among {', '.join(_FAULTS)}; all if not given.")
    flags.DEFINE_integer("kills", 20, "Moments at which a training is killed.", lower_bound=1)
    flags.DEFINE_integer("damages", 100, "Damaged copies of each kind of file.", lower_bound=1)
    flags.DEFINE_integer("inputs", 1000, "Malformed ones for each entrance.", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "Of the moments and the damages.", lower_bound=0)


def measure(options):
    """Measures what was asked for.

    Raises:
        ValueError: If a name in `only` is unknown.
    """
    from benchmarks import _measure

    chosen = options["only"] or list(_FAULTS)
    unknown = sorted(set(chosen) - set(_FAULTS))
    if unknown:
        raise ValueError(f"`only` must be among {list(_FAULTS)}. Received: {unknown}")
    results = {}
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = _FAULTS[name](Path(folder), random.Random(options["seed"]), options)
        logging.info("%s: %s", name, results[name])
    conditions = {key: options[key] for key in ("kills", "damages", "inputs")}
    _measure.write(
        options["json"], results, seed=options["seed"], data_source="embedded", **conditions
    )


def _kill(folder, rng, options):
    """Kills at random moments: what is lost, and whether the end is that of a run left alone."""
    from benchmarks import _trainings

    _trainings.train(folder / "whole").check_returncode()
    whole = _trainings.weights(folder / "whole")
    seconds = _trainings.summary(folder / "whole")["wall_seconds"]
    done, lost, ends = [], [], []
    while len(lost) < options["kills"]:
        run = folder / "killed"
        ended = _trainings.train_and_kill(run, rng.uniform(0.3, 1.2) * seconds)
        if ended is None:
            shutil.rmtree(run)
            continue
        second = _trainings.train(run)
        second.check_returncode()
        found = re.search(r"Resuming after epoch (\d+)", second.stderr)
        done.append(ended)
        lost.append(ended - (int(found[1]) if found else 0))
        ends.append(_difference(_trainings.weights(run), whole))
        shutil.rmtree(run)
    return {
        "kills": len(lost),
        "whole_epochs_before_each": done,
        "whole_epochs_lost_most": max(0, *lost),
        "largest_difference_of_a_weight_or_an_optimizers_state": max(ends),
        "equal_to_the_bit": sum(end == 0.0 for end in ends),
    }


def _difference(ours, theirs):
    return max(float(abs(a - b).max()) for a, b in zip(ours, theirs, strict=True) if a.size)


def _files(folder, rng, options):
    """Damaged checkpoints, `.keras` files and zoo files, and foreign `.keras` files."""
    from benchmarks import _damage, _trainings

    _trainings.train(folder).check_returncode()
    run, count = folder / "runs" / _trainings.NAME, options["damages"]
    return {
        "checkpoints": _damage.checkpoints(run, rng, count),
        "keras": _damage.keras_files(run, rng, count),
        "zoo": _damage.zoo_files(folder, rng, count),
        "foreign": _damage.foreign_files(folder),
    }


def _disk(folder, _, options):
    """A disk that is full after so many megabytes, and one that cannot be written."""
    from benchmarks import _trainings

    del options
    counts = dict.fromkeys(("clear_errors", "finished", "wrong", "files_half_written"), 0)
    for megabytes in _MEGABYTES:
        with _mounted(folder / "disk", megabytes) as disk:
            if disk is None:
                return {"not_measured": "a file system of a given size needs root"}
            _count(_trainings.train(disk), counts)
            counts["files_half_written"] += len(_trainings.half_written(disk))
    with _mounted(folder / "disk", 1, "ro") as disk:
        _count(_trainings.train(disk), counts)
        counts["files_half_written"] += len(list(disk.iterdir()))
    return counts


def _count(process, counts):
    from benchmarks import _trainings

    lines, is_crash = _trainings.errors(process)
    if process.returncode == 0:
        counts["finished"] += 1
    else:
        is_clear = len(lines) == 1 and not is_crash
        counts["clear_errors" if is_clear else "wrong"] += 1
        if not is_clear:
            logging.error("%s", process.stderr[-2000:])


@contextlib.contextmanager
def _mounted(folder, megabytes, mode="rw"):
    """Mounts a file system of a given size; gives None where that is not allowed."""
    folder.mkdir(exist_ok=True)
    options = f"{mode},size={int(megabytes * 1024)}k"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _inputs(folder, _, options):
    """Malformed inputs against the Python API, the command lines and the server."""
    import numpy as np
    import tensorflow as tf

    from benchmarks import _command_lines, _malformed, _server
    from tfpurify import PurifiedClassifier
    from tfpurify.data import loading
    from tfpurify.serving import saved_model
    from tfpurify.serving.bundle import Bundle

    count = options["inputs"]
    images = loading.load_dataset("mnist", "test", source="embedded").take(8)
    images = np.stack([image for image, _ in images.as_numpy_iterator()])
    model = PurifiedClassifier.from_preset("puvae_mnist_adversarial")
    found = {"python": _malformed.call_models({"PurifiedClassifier": model}, images, count)}
    for shape in ((28, 28, 1), (32, 32, 3)):
        found[f"files_{shape[-1]}_channels"] = _malformed.decode_files(shape, count // 2)
    for trainer in _TRAINERS:
        parsed = _command_lines.apart(_command_lines.parse, trainer, count // len(_TRAINERS))
        found[f"trainers.{trainer}"] = parsed
    saved_model.export_purified_classifier(model, folder / "tiny")
    (folder / "digit.png").write_bytes(tf.io.encode_png(np.uint8(255 * images[0])).numpy())
    bundle = f"--bundle={folder / 'tiny'}"
    first = {"serve": (bundle,), "purify": (bundle, f"--input_pattern={folder / '*.png'}")}
    for program in _command_lines.PROGRAMS:
        of_program = (program, folder / program, count // len(_command_lines.PROGRAMS))
        called = _command_lines.apart(_command_lines.run, *of_program, first.get(program, ()))
        found[f"trainers.{program}"] = called
    labels = Bundle(folder / "tiny").signatures["serving_default"](images=images)["label"]
    with _server.serving(folder / "tiny") as port:
        found["server"] = _malformed.ask_server(port, "tiny", images, labels.numpy(), count)
    return found


def _seeds(folder, _, options):
    """Two runs with one seed: the largest difference of any weight or optimizer's state."""
    from benchmarks import _trainings

    del options
    short = ("--dataset=mnist", "--data_source=embedded", "--epochs=2", "--steps_per_epoch=10")
    short += ("--batch_size=16", "--validation_examples=100", "--eval_examples=2")
    names = {
        "classifier": "cnn_mnist",
        "puvae": "puvae_mnist",
        "defensegan": "dcgan_mnist",
        "encoder": "encoder_dcgan_mnist",
        "advgan": "advgan_mnist_whitebox_none",
    }
    found = {}
    for trainer, name in names.items():
        both = []
        for index in range(2):
            run = folder / f"{trainer}{index}"
            _trainings.train(run, trainer=trainer, arguments=short).check_returncode()
            both.append(_trainings.weights(run, name))
        found[trainer] = _difference(*both)
    return found


def _nan(folder, _, options):
    """NaN in the data of the second epoch: what is said, and after which epoch a run goes on."""
    import numpy as np

    from benchmarks import _trainings
    from tfpurify.data import loading
    from tfpurify.training.fn_args import FnArgs
    from trainers import defensegan

    del options
    config = {"data_source": "embedded", "steps_per_epoch": 5, "batch_size": 16}
    config |= {"eval_examples": 2, "num_steps": 2, "num_restarts": 1, "output_dir": str(folder)}
    defensegan.run_fn(FnArgs(custom_config={**config, "epochs": 1}))
    right = loading.training_batches

    def poisoned(*args, **kwargs):
        batches, steps = right(*args, **kwargs)
        return batches.map(lambda images, labels: (images + np.nan, labels)), steps

    loading.training_batches = poisoned
    try:
        defensegan.run_fn(FnArgs(custom_config={**config, "epochs": 2}))
    except Exception as error:  # whichever it is, it is shown
        said = str(error).partition(" [")[0]
    else:
        said = None
    finally:
        loading.training_batches = right
    defensegan.run_fn(FnArgs(custom_config={**config, "epochs": 2}))
    return {"says": said, "goes_on_after": _trainings.summary(folder)["resumed_after_epoch"]}


def _folders(folder, _, options):
    """Two processes and one output folder: the second refuses, the first goes on."""
    from benchmarks import _trainings

    del options
    first, second = _trainings.race(folder)
    lines, is_crash = _trainings.errors(second)
    return {
        "first_exit": first,
        "second_exit": second.returncode,
        "second_says": lines,
        "is_crash": is_crash,
        "files_half_written": len(_trainings.half_written(folder)),
    }


_FAULTS = {
    "kill": _kill,
    "files": _files,
    "disk": _disk,
    "nan": _nan,
    "inputs": _inputs,
    "seeds": _seeds,
    "folders": _folders,
}


def main():
    """Runs the command line."""
    _flags.run_app(_options.define(define_flags), measure)


if __name__ == "__main__":
    main()
