"""Metadata, dependencies and the console script; the tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Ranges whose lowest and newest versions both passed the tests (see CONTRIBUTING.md).
REQUIRES = [
    "tensorflow>=2.20,<2.22",
    # KerasHub leaves tensorflow-text out on Windows: use WSL there.
    "tensorflow-text>=2.20.1,<2.22; platform_system != 'Windows'",
    "keras>=3.15,<3.16",
    "keras-hub>=0.32,<0.33",
    "tensorflow-datasets>=4.9.10,<4.10",
    "numpy>=2.1,<2.5",
    "scikit-learn>=1.6,<1.10",
    "sacrebleu>=2.4.3,<2.7",
    "rouge-score>=0.1.2,<0.2",
    "pyarrow>=21,<27",
    "pydantic>=2.10,<2.15",
    "PyYAML>=6.0.2,<7",
    "typer>=0.26,<0.30",
    "rich>=14,<16",
    "safetensors>=0.5.3,<0.9",
    "h5py>=3.12.1,<3.15",
    "protobuf>=6.31.1,<8",
    "matplotlib>=3.10,<3.12",
    "tensorboard>=2.20,<2.22",
]

EXTRAS = {
    # hf:NAME as data, hf://... as preset
    "hf": ["datasets>=4.4,<6", "huggingface_hub>=0.35,<3"],
    # kerasft serve, and warm-up requests
    "serving": [
        "tensorflow-serving-api>=2.21,<2.22",
        "grpcio>=1.80,<2",
        "aiohttp>=3.14,<4",
        "prometheus-client>=0.26,<1",
    ],
    # to open the notebooks
    "notebook": ["jupyterlab>=4.4,<5", "ipykernel>=6.30,<8"],
}
EXTRAS["all"] = sorted({name for names in EXTRAS.values() for name in names})
EXTRAS["test"] = [
    "pytest>=8.4,<10",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.14,<0.18",
    "pandas>=2.2.3,<3.2",
    "nbclient>=0.10.2,<0.12",
    "jsonschema>=4.20,<5",
    "nbformat>=5.10,<6",
    "ipykernel>=6.30,<8",
    "selenium>=4.30,<5",
    *EXTRAS["serving"],
]
# What kerasft is compared with in benchmarks/; kerasft itself never imports these.
EXTRAS["benchmark"] = [
    "torch==2.13.0",
    "transformers>=5.23,<5.24",
    "peft>=0.21,<0.22",
    "accelerate>=1.15,<1.16",
]

VERSION = re.search(r'__version__ = "(.+)"', (HERE / "kerasft/_version.py").read_text())[1]

setup(
    name="kerasft",
    version=VERSION,
    description="Fine-tune BERT and GPT backbones in Keras; get a SavedModel that takes strings",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["kerasft", "kerasft.*"]),
    # The preset bert_tiny, the mails of the quickstart and the page of `kerasft serve` travel
    # inside the package.
    package_data={
        "kerasft": [
            "py.typed",
            "**/*.json",
            "**/*.safetensors",
            "**/*.txt",
            "**/*.xz",
            "**/LICENSE",
            "**/NOTICE",
            "serving/page/page.*",
        ]
    },
    python_requires=">=3.11,<3.14",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["kerasft = kerasft.cli.main:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
)
