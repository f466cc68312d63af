"""Who does the work: the shards and their supervisor; the only place that imports Ray."""
