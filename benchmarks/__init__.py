"""Benchmarks: each row beside its floor and its peers in one run, compared by the median of the per-repeat ratios.

`python -m benchmarks [ROW…]` runs rows, prints the table and writes it. A row is a module `bench_NAME.py` beside this
file, found by its name, with

    TITLE = "one line for the list"
    def rows(bench: Bench) -> Iterator[Row | Curve]

`bench` (see `run`) says how large and how often to measure, lends folders and starts peers. A module that only sets
contenders beside one another may instead have `main()`, which calls `measure.compare`: what it compares is collected
just the same. A row checks that all its contenders computed the same thing before it yields a figure; what it checked
it says in `Row.checked`. A peer that is not there is named in `Row.missing`, and never guessed.
"""
