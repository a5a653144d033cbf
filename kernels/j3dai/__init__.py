"""Kernels of the J3DAI clusters."""
