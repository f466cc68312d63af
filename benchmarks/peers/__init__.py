"""What runs in the peers' environments: no module here imports Darkroom, which is not installed there."""
