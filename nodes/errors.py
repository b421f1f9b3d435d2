"""The exceptions that a person at the keyboard is meant to read."""


class BadInputError(ValueError):
    """What was given cannot be used; the message says what is wrong and how to mend it.

    A run that meets it goes on with the other people and streams and ends with exit code 65.
    """


class ProgramKilledError(RuntimeError):
    """An external program was killed from outside, most often because memory ran out."""


class MissingProgramError(RuntimeError):
    """An external program or a data file that was asked for is not installed here."""
