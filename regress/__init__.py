"""RTL regressions: `pytest regress/`."""
