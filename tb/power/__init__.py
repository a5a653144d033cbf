# SPDX-License-Identifier: Apache-2.0
"""Energy of mapped gates: tables of a cell library, switching that was counted, memories by a model."""
