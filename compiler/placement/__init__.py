# SPDX-License-Identifier: Apache-2.0
"""Where each buffer lies, and when it is in use."""
