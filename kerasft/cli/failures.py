"""What a command says, and the code it ends with, when something goes wrong.

0 done | 1 a failure of ours | 2 the user's input, or a full disk | 3 an alarm of `kerasft monitor`
stands | 4 a retrained model is worse | 75 interrupted with a checkpoint to go on from | 130
interrupted without one (143 by SIGTERM) | 141 nobody reads our output any more.
"""

import errno
import sys
import traceback

from kerasft._core.errors import Interrupted, KerasftError

OURS, INPUT, ALARM, WORSE, INTERRUPTED, UNREAD, TERMINATED = 1, 2, 3, 4, 130, 141, 143
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


class Terminated(BaseException):
    """SIGTERM: raised by `terminate`, so that what is half-written is taken away on the way out."""


def terminate(number: int, frame: object) -> None:
    """The handler of SIGTERM while a command runs; `train` has its own while it fits."""
    raise Terminated("SIGTERM")


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
    stopped = code in (Interrupted.exit_code, INTERRUPTED, TERMINATED)
    word = "interrupted" if stopped else "error"
    print(f"{word}: {line}", file=sys.stderr)
    return code


def _judge(error: BaseException) -> tuple[int, str]:
    text = str(error)
    if isinstance(error, KerasftError):
        return error.exit_code, text
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "Stopped by Ctrl-C."
    if isinstance(error, Terminated):
        return TERMINATED, "Stopped by SIGTERM."
    if "No space left on device" in text or getattr(error, "errno", None) == errno.EDQUOT:
        # Rust's and TensorFlow's own error classes say it in words only.
        return INPUT, f"The disk is full: free some space and run again. ({_first_line(text)})"
    if isinstance(error, OSError) and error.errno in _REFUSED:
        return INPUT, f"{error.strerror}: {error.filename or _first_line(text)}"
    return OURS, f"{type(error).__name__}: {_first_line(text)}"


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no message."
