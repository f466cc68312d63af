"""The command line's commands, by what they are about. Each takes parsed arguments and returns an exit status."""
