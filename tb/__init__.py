# SPDX-License-Identifier: Apache-2.0
"""The test bench: builds, loads, drives, monitors, compares, reports."""
