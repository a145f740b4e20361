"""What a command says, and the code it ends with, when something goes wrong.

0 done | 1 a failure of ours | 2 the user's input, or a full disk | 75 interrupted with a
checkpoint to go on from | 130 interrupted without one | 141 nobody reads our output any more.
"""

import errno
import sys
import traceback

from kerasft._core.errors import Interrupted, KerasftError

OURS, INPUT, INTERRUPTED, UNREAD = 1, 2, 130, 141
# What the system refuses is for the user to mend; the message of OSError names the path.
_REFUSED = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def report(error: BaseException, debug: bool = False) -> int:
    """Say on stderr, in one line, what went wrong; return the exit code.

    Args:
        error: what was raised.
        debug: print the traceback first.

    Example:
        report(InputError("There is no file x.csv."))     # error: There is no file x.csv.
    """
    if isinstance(error, BrokenPipeError):
        return UNREAD
    if debug:
        traceback.print_exception(error)
    code, message = _judge(error)
    line = " ".join(message.split())
    if code == OURS and not debug:
        line = f"{line.rstrip('.')}. Run again with --debug for the traceback."
    word = "interrupted" if code in (Interrupted.exit_code, INTERRUPTED) else "error"
    print(f"{word}: {line}", file=sys.stderr)
    return code


def _judge(error: BaseException) -> tuple[int, str]:
    text = str(error)
    if isinstance(error, KerasftError):
        return error.exit_code, text
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "Stopped by Ctrl-C."
    if "No space left on device" in text or getattr(error, "errno", None) == errno.EDQUOT:
        # Rust's and TensorFlow's own error classes say it in words only.
        return INPUT, f"The disk is full: free some space and run again. ({_first_line(text)})"
    if isinstance(error, OSError) and error.errno in _REFUSED:
        return INPUT, f"{error.strerror}: {error.filename or _first_line(text)}"
    return OURS, f"{type(error).__name__}: {_first_line(text)}"


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no message."
