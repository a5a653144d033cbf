# SPDX-License-Identifier: Apache-2.0
"""The front end: QONNX or QDQ in, the integer network out."""

from nncosim.compiler.frontend.importer import Import, import_details, import_model
from nncosim.compiler.frontend.user_arrays import (
    dequantise_output,
    in_onnx_layout,
    quantise_input,
    quantise_inputs,
    raw_outputs,
)

__all__ = [
    "Import", "dequantise_output", "import_details", "import_model", "in_onnx_layout",
    "quantise_input", "quantise_inputs", "raw_outputs",
]
