# SPDX-License-Identifier: Apache-2.0
"""Moving data by an engine that works in order: which transfer when, and what can go for a later layer already."""
