"""The compiler: QONNX to an integer network, to tiles, to one image."""
