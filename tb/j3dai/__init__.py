"""What is particular to J3DAI in the test bench: its backends and its timing."""
