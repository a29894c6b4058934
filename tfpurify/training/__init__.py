"""One training run: its settings, folder, checkpoints, devices, and trained parts by name.

`options`, `presets` and `configuration` say what is trained, `runner` how. It knows nothing of how
results are measured or reported: a trainer hands that to `Run.finish`.
"""
