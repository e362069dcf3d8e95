"""The exceptions that commands turn into a single line, and the exit codes of all commands."""

CHECK_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


class InputError(ValueError):
    """Bad input from outside: a file, a folder or a flag.

    The message is one line that says what is wrong, where, and what was expected.
    """


class CheckError(Exception):
    """A check failed, such as a training that has diverged; commands end with exit code 1.

    The message is one line that says what is wrong, where, and what to change.
    """
