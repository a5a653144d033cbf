"""The test bench: builds, loads, drives, monitors, compares, reports."""
