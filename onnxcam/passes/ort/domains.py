"""Correct files written by ONNX Runtime that ONNX's checker would reject."""

from __future__ import annotations

import onnx

from onnxcam.graph.operators import CONTRIB
from onnxcam.graph.opset import schema_at
from onnxcam.passes.decomposition import Stage, decomposed_operators
from onnxcam.passes.ort.nchwc_block_size import set_nchwc_block_size


def normalize_ort_domains(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Write down the domain and the block size of ONNX Runtime's operators, in place, before the model is
    checked; returns notices for the user. The model computes the same.

    ONNX Runtime writes two operators of its own into the default domain: LayerNormalization below opset 17, and
    SimplifiedLayerNormalization, which no version of ONNX has. It also writes files of IR version 3 whose
    initializers are not among the inputs, which version 4 was the first to allow.
    """
    proto.ir_version = max(proto.ir_version, 4)
    imports = proto.opset_import
    opset = next(imported.version for imported in imports if imported.domain in ("", "ai.onnx"))
    ort_operators = decomposed_operators(Stage.LOADING)
    misplaced = [
        node
        for node in proto.graph.node
        if node.domain in ("", "ai.onnx")
        and (CONTRIB, node.op_type) in ort_operators
        and schema_at(node.op_type, opset) is None
    ]
    for node in misplaced:
        node.domain = CONTRIB
    if misplaced and all(imported.domain != CONTRIB for imported in imports):
        imports.append(onnx.helper.make_opsetid(CONTRIB, 1))
    notice = set_nchwc_block_size(proto.graph)
    return () if notice is None else (notice,)
