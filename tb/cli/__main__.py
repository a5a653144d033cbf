# SPDX-License-Identifier: Apache-2.0
"""`python -m nncosim.tb.cli`: the same as `nncosim`."""

from nncosim.tb.cli.main import main

main()
