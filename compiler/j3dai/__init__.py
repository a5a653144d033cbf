"""J3DAI back end: tiling, programs, descriptors, host code."""
