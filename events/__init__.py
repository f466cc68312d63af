"""What replay cannot rebuild: the facts, their bytes, the log, the clock and the original media."""
