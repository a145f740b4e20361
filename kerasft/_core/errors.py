"""The errors that kerasft raises on purpose, and the exit code of each."""


class KerasftError(Exception):
    """A failure that kerasft itself reports; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(KerasftError, ValueError):
    """The user's input is wrong.

    The message is one line: what was expected, what came (`Received: ...`), what to do.
    """

    exit_code = 2


class MissingExtra(InputError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str):
        super().__init__(
            f"This needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'kerasft[{extra}]'"
        )


class DivergedError(KerasftError):
    """The loss became NaN or infinite."""


class Interrupted(KerasftError):
    """Training was stopped by a signal; the last checkpoint stands and can be resumed."""

    exit_code = 75
