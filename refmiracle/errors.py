"""The one exception that commands turn into a single line and exit code 2."""


class InputError(ValueError):
    """Bad input from outside: a file, a folder or a flag.

    The message is one line that says what is wrong, where, and what was expected.
    """
