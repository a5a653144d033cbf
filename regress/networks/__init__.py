"""Networks shipped with the test bench: the trained digits classifier, its test split, its training."""
