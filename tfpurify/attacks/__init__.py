"""Attacks see `target(images) -> logits` and nothing else."""
