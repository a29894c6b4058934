"""A trainer as the Trainer of a TFX pipeline: its images, its options, the pipeline itself.

`trainers.tfx_pipeline` says what the pipeline does. TFX itself is imported only where it is run.
"""

import json
from pathlib import Path

from absl import logging

from tfpurify.data import loading, sources
from tfpurify.training import configuration

# Where no file holds evaluation images: of ten hash buckets of the training images, the tenth.
_TRAIN_BUCKETS, _EVAL_BUCKETS = 9, 1


def custom_config(values):
    """Returns the trainer's options that the values of `--custom_config` hold.

    Args:
        values: Each `NAME=VALUE`, where VALUE is JSON or else a string, or a JSON object.

    Raises:
        ValueError: If one is neither.
    """
    options = {}
    for value in values:
        if value.lstrip().startswith("{"):
            try:
                options |= json.loads(value)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"`custom_config` must be JSON if it begins with a brace. Received: {value!r} "
                    f"({error})"
                ) from error
            continue
        name, is_pair, text = value.partition("=")
        if not (name and is_pair):
            raise ValueError(
                f"`custom_config` must be NAME=VALUE or a JSON object. Received: {value!r}"
            )
        try:
            options[name] = json.loads(text)
        except json.JSONDecodeError:
            options[name] = text
    return options


def write_input(folder, config):
    """Writes a data set's training and validation images as `train.tfrecord`, `eval.tfrecord`.

    Args:
        folder: Made if missing.
        config: A run's configuration; `dataset`, `data_dir` and `data_source` are read.

    Raises:
        OSError: If the folder cannot be written, or the images are nowhere to be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = config["dataset"], config["data_dir"]
    source = loading.resolve_source(*place, config["data_source"])
    for name, split in (("train", "train"), ("eval", "validation")):
        images = loading.load_uint8(place[0], split, place[1], source)
        sources.write_examples(folder / f"{name}.tfrecord", images.as_numpy_iterator())


def find_splits(folder, train_pattern, eval_pattern):
    """Returns which files hold which images: the pattern of each of ImportExampleGen's splits.

    Args:
        folder: Of the TFRecords.
        train_pattern: Glob within it.
        eval_pattern: The same.

    Returns:
        `{"train": ..., "eval": ...}`, or `{"all": ...}` if no file matches `eval_pattern`.

    Raises:
        FileNotFoundError: If no file matches `train_pattern`.
    """
    if not any(folder.glob(train_pattern)):
        raise FileNotFoundError(
            "`train_pattern` must match TFRecord files in `input_base`. "
            f"Received: train_pattern={train_pattern!r}, input_base={folder}"
        )
    if any(folder.glob(eval_pattern)):
        return {"train": train_pattern, "eval": eval_pattern}
    logging.info("No file matches %s: a tenth of the images is set aside", eval_pattern)
    return {"all": train_pattern}


def build_pipeline(tfx, options, config):
    """Returns the pipeline.

    Args:
        tfx: The module `tfx.v1`.
        options: The flags by name, `input_base` given.
        config: The trainer's options by flag name.

    Raises:
        FileNotFoundError: If no file matches `train_pattern`.
    """
    root, base = Path(options["pipeline_root"]), Path(options["input_base"])
    patterns = find_splits(base, options["train_pattern"], options["eval_pattern"])
    example_gen = tfx.components.ImportExampleGen(
        input_base=str(base),
        input_config=_input_config(tfx.proto, patterns),
        output_config=_shares(tfx.proto) if "all" in patterns else None,
    )
    trainer = tfx.components.Trainer(
        run_fn=f"trainers.{options['trainer']}.run_fn",
        examples=example_gen.outputs["examples"],
        train_args=tfx.proto.TrainArgs(num_steps=options["train_steps"]),
        eval_args=tfx.proto.EvalArgs(),
        custom_config=config,
    )
    filesystem = tfx.proto.PushDestination.Filesystem(base_directory=str(options["serving_dir"]))
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        push_destination=tfx.proto.PushDestination(filesystem=filesystem),
    )
    return tfx.dsl.Pipeline(
        pipeline_name=f"tfpurify_{options['trainer']}",
        pipeline_root=str(root),
        components=[example_gen, trainer, pusher],
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(root / "metadata.sqlite")
        ),
    )


def _input_config(proto, patterns):
    splits = [proto.Input.Split(name=name, pattern=glob) for name, glob in patterns.items()]
    return proto.Input(splits=splits)


def _shares(proto):
    """Returns the split of all images into two parts by their hash."""
    split = proto.SplitConfig.Split
    shares = [
        split(name="train", hash_buckets=_TRAIN_BUCKETS),
        split(name="eval", hash_buckets=_EVAL_BUCKETS),
    ]
    return proto.Output(split_config=proto.SplitConfig(splits=shares))


def run(options):
    """Runs the pipeline and returns the path of the version that it pushed.

    Args:
        options: `trainers.tfx_pipeline`'s flags by name.

    Raises:
        ImportError: If TFX is not installed.
        ValueError: If an option is unknown or out of range.
        OSError: If a folder cannot be written, or holds no images.
    """
    config = {name: options[name] for name in ("dataset", "data_source", "data_dir")}
    config |= custom_config(options["custom_config"])
    resolved = configuration.resolve(options["trainer"], config)
    try:
        from tfx import v1 as tfx
    except ImportError as error:
        raise ImportError(
            "The pipeline needs TFX, in an environment of Python 3.10: "
            f'`pip install -e ".[tfx]"`, see README.md. Received: {error}'
        ) from error
    folders = {name: Path(options[name]).absolute() for name in ("pipeline_root", "serving_dir")}
    base = options["input_base"]
    if base is None:
        base = folders["pipeline_root"] / "input" / resolved["dataset"]
        write_input(base, resolved)
    options = {**options, **folders, "input_base": Path(base).absolute()}
    tfx.orchestration.LocalDagRunner().run(build_pipeline(tfx, options, config))
    serving = folders["serving_dir"]
    versions = (int(path.name) for path in serving.iterdir() if path.name.isdecimal())
    pushed = serving / str(max(versions))
    logging.info("Pushed: %s", pushed)
    return pushed
