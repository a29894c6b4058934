"""Installs `tfpurify` and `trainers`."""

from setuptools import find_packages, setup

setup(
    name="tfpurify",
    version="0.1.0",
    description="Defensive purification (PuVAE, DefenseGAN) against AdvGAN in Keras 3 / TensorFlow",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["tfpurify", "tfpurify.*", "trainers", "trainers.*"]),
    package_data={"tfpurify.data.embedded": ["*"]},
    install_requires=[
        "absl-py",
        "importlib_resources",  # tensorflow-datasets 4.9.10 imports it without asking for it
        "keras>=3.10",
        "matplotlib",
        "numpy",
        "tensorboard",  # TensorFlow 2.21 no longer brings it
        "tensorflow>=2.16",  # TFX 1.16 asks for less than 2.17
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
            "pytest-xdist",
            "ruff>=0.12",
            "tensorflow-serving-api>=2.18",
            "tf2onnx>=1.17",
        ],
        # Python 3.10 alone, in an environment of its own: its Beam is older than `test` asks for.
        "tfx": [
            # The versions that fit, without which pip goes through all of them.
            *("apache-beam[gcp]==2.74.*", "grpcio-status==1.48.*", "protobuf==3.20.*"),
            *("google-cloud-monitoring==2.29.*", "tensorflow==2.16.*"),
            "dill",  # tfx-bsl imports it; Beam once brought it
            "setuptools<81",  # tensorflow-hub imports its pkg_resources
            "tfx==1.16.*",
        ],
    },
)
