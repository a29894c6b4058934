"""What `run_fn` is called with: TFX's FnArgs, without TFX."""

import dataclasses


@dataclasses.dataclass
class FnArgs:
    """The fields of `tfx.v1.components.FnArgs`; TFX passes its own object in their place.

    Read here: `custom_config` (this trainer's options by flag name), `train_files` (TFRecord
    patterns, if the data are not to come from TFDS or the embedded sample), `train_steps` (a cap),
    `serving_model_dir` (holds a SavedModel when `run_fn` returns), `model_run_dir` (checkpoints,
    logs and records).
    """

    working_dir: str | None = None
    train_files: list = dataclasses.field(default_factory=list)
    eval_files: list = dataclasses.field(default_factory=list)
    train_steps: int | None = None
    eval_steps: int | None = None
    schema_path: str | None = None
    schema_file: str | None = None
    transform_graph_path: str | None = None
    transform_output: str | None = None
    data_accessor: object | None = None
    serving_model_dir: str | None = None
    eval_model_dir: str | None = None
    model_run_dir: str | None = None
    base_model: str | None = None
    hyperparameters: dict | None = None
    custom_config: dict | None = None
