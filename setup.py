"""Installs `tfpurify` and `trainers`."""

from setuptools import find_packages, setup

setup(
    name="tfpurify",
    version="0.1.0",
    description="Defensive purification (PuVAE, DefenseGAN) against AdvGAN in Keras 3 / TensorFlow",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["tfpurify", "tfpurify.*", "trainers", "trainers.*"]),
    package_data={"tfpurify": ["embedded/*"]},
    install_requires=[
        "absl-py",
        "importlib_resources",  # tensorflow-datasets 4.9.10 imports it without asking for it
        "keras>=3.10",
        "matplotlib",
        "numpy",
        "tensorboard",  # TensorFlow 2.21 no longer brings it
        "tensorflow>=2.18",
        "tensorflow-datasets",
    ],
    extras_require={
        "art": ["adversarial-robustness-toolbox>=1.20", "multiprocess"],
        "beam": ["apache-beam>=2.70"],
        "onnx": ["ai-edge-litert", "onnxruntime", "tf2onnx>=1.17"],
        "peers": ["torch==2.13.*"],  # for benchmarks/ alone
        "serve": ["kserve>=0.21", "tensorflow-serving-api>=2.18"],
        "test": [
            "adversarial-robustness-toolbox>=1.20",
            "ai-edge-litert",
            "apache-beam>=2.70",
            "hypothesis[numpy]",
            "kserve>=0.21",
            "multiprocess",  # ART imports it without asking for it
            "onnxruntime",
            "pytest>=8",
            "ruff>=0.12",
            "tensorflow-serving-api>=2.18",
            "tf2onnx>=1.17",
        ],
    },
)
