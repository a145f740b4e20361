"""A stand-in for `tensorflow_model_server`: TF Serving's flags, and our own server behind them.

It shows that what looks for TF Serving, starts it and ends it does so. It says nothing about how
TF Serving itself answers.
"""

import argparse
import shlex
import sys
from pathlib import Path

from kerasft.serving import ModelConfig, Options, read_models, serve


def program(folder: Path, name: str = "tensorflow_model_server") -> Path:
    """The stand-in as a program in a folder."""
    return script(folder / name, f'exec {shlex.join([sys.executable, __file__])} "$@"')


def script(path: Path, line: str) -> Path:
    """A program of one line of shell."""
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def main() -> int:
    # As in TF Serving a flag is written --name=value, and an unknown one is an error.
    parser = argparse.ArgumentParser("tensorflow_model_server", allow_abbrev=False)
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--rest_api_port", type=int, required=True)
    parser.add_argument("--model_name", default="default")
    parser.add_argument("--model_base_path")
    parser.add_argument("--model_config_file")
    parser.add_argument("--allow_version_labels_for_unavailable_models")
    given = parser.parse_args()
    if given.model_config_file:
        models = read_models(given.model_config_file)
    else:
        models = (ModelConfig(given.model_name, given.model_base_path),)
    serve(Options(models, port=given.port, rest_port=given.rest_api_port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
