"""A SavedModel asked its golden records in the C runtime: `python -m kerasft.export.check_golden`.

In a process of its own, because a graph that crashes takes its process with it.
"""

import argparse
import json
import sys

from kerasft._core.errors import KerasftError
from kerasft.export.c_runtime import CModel
from kerasft.export.golden import check_golden


def main(arguments: list[str] | None = None) -> int:
    """Print `{"runtime": version, "checked": records, "difference": largest}` and return 0, or
    one line that says what is wrong, and return 1; both on standard output."""
    parser = argparse.ArgumentParser("python -m kerasft.export.check_golden", description=__doc__)
    parser.add_argument("folder", help="the version, with saved_model.pb and assets.extra")
    parser.add_argument("--library", help="folder of another TensorFlow's C library")
    parser.add_argument("--text-ops", help="folder of the op libraries that belong to it")
    args = parser.parse_args(arguments)
    try:
        with CModel(args.folder, library=args.library, text_ops=args.text_ops) as model:
            checked, difference = check_golden(model, args.folder)
            found = {"runtime": model.version, "checked": checked, "difference": difference}
    except KerasftError as error:
        print(" ".join(str(error).split()))
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
