"""What replay can rebuild: each projection built and read in one module, and the stores that hold it."""
