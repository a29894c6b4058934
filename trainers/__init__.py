"""Trainer binaries; each has `build_model()`, `run_fn(fn_args)` and `main()`."""
