"""What the toolkit's speed is measured with: ratios of two things timed in one run."""

import sys

# PyTorch's Triton and TensorFlow each bring an LLVM; a process that loads both aborts.
sys.modules["triton"] = None
