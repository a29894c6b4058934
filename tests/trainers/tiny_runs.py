import types

TINY = {
    "data_source": "embedded",
    "batch_size": 8,
    "train_steps": 2,
    "validation_examples": 8,
    "eval_examples": 8,
}

# The fields of tfx.v1.components.FnArgs, without TFX.
FN_ARGS_FIELDS = (
    "working_dir",
    "train_files",
    "eval_files",
    "train_steps",
    "eval_steps",
    "schema_path",
    "schema_file",
    "transform_graph_path",
    "transform_output",
    "data_accessor",
    "serving_model_dir",
    "eval_model_dir",
    "model_run_dir",
    "base_model",
    "hyperparameters",
    "custom_config",
)


def make_fn_args(custom_config, **fields):
    values = {**dict.fromkeys(FN_ARGS_FIELDS), **fields, "custom_config": custom_config}
    return types.SimpleNamespace(**values)
