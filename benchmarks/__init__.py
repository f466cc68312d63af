"""Benchmarks: each row beside its floor in one run, compared by the median of the per-repeat ratios."""
