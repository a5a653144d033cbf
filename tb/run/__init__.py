# SPDX-License-Identifier: Apache-2.0
"""From a model and inputs to an outcome: compile, run, evaluate."""
