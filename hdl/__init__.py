"""The RTL, built from a platform description."""
