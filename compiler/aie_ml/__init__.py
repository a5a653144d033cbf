# SPDX-License-Identifier: Apache-2.0
"""The AIE-ML back end: dense layers to schedules, schedules to a program, all to one image."""
