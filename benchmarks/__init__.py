"""What the toolkit's speed is measured with: ratios of two things timed in one run."""
