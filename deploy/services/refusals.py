"""What goes wrong, by what one can do about it: install a program, or read the message."""


class ServiceError(Exception):
    """A server cannot be fetched, started or stopped; the text says why, and what to do."""


class ToolMissing(ServiceError):
    """A program that the machine lacks; with it, the same command may work."""
