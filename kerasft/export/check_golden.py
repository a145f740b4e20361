"""SavedModels asked their golden records in the C runtime: `python -m kerasft.export.check_golden`.

In a process of its own, because a graph that crashes takes its process with it.
"""

import argparse
import json
import sys
from typing import Any

from kerasft._core.errors import KerasftError
from kerasft.export.c_runtime import CModel
from kerasft.export.golden import check_golden


def main(arguments: list[str] | None = None) -> int:
    """Print one line of JSON for each folder, and return 0, or 1 where one is not as it should be.

    A line is `{"runtime": version, "checked": records, "difference": largest}` or
    `{"error": what is wrong}`.
    """
    parser = argparse.ArgumentParser("python -m kerasft.export.check_golden", description=__doc__)
    parser.add_argument(
        "folders",
        nargs="*",
        help="versions, with saved_model.pb and assets.extra; read from standard input, one a "
        "line, when none is given",
    )
    parser.add_argument("--library", help="folder of another TensorFlow's C library")
    parser.add_argument("--text-ops", help="folder of the op libraries that belong to it")
    args = parser.parse_args(arguments)
    wrong = False
    for folder in args.folders or (line.rstrip("\n") for line in sys.stdin):
        found = _checked(folder, args.library, args.text_ops)
        wrong |= "error" in found
        print(json.dumps(found), flush=True)
    return int(wrong)


def _checked(folder: str, library: str | None, text_ops: str | None) -> dict[str, Any]:
    try:
        with CModel(folder, library=library, text_ops=text_ops) as model:
            checked, difference = check_golden(model, folder)
            return {"runtime": model.version, "checked": checked, "difference": difference}
    except KerasftError as error:
        return {"error": " ".join(str(error).split())}


if __name__ == "__main__":
    sys.exit(main())
