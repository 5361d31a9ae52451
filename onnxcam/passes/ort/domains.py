"""What a file leaves unsaid about ONNX Runtime's own operators, said before it is checked."""

from __future__ import annotations

import onnx

from onnxcam.graph.constants import CONTRIB
from onnxcam.graph.opset import schema_at
from onnxcam.passes.ort.nchwc_block_size import set_nchwc_block_size
from onnxcam.passes.ort.registry import FUSED


def normalize_ort_domains(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Say the domain and the length of blocks where they are not said, in place; returns notices for the user.

    ONNX Runtime counts to the default domain its own LayerNormalization of before opset 17, and
    SimplifiedLayerNormalization, which no version of ONNX has. A file of IR version 3 it writes with
    initializers that are not among the inputs, as version 4 allows.
    """
    proto.ir_version = max(proto.ir_version, 4)
    opset = next(each.version for each in proto.opset_import if each.domain in ("", "ai.onnx"))
    moved = [
        node
        for node in proto.graph.node
        if node.domain in ("", "ai.onnx")
        and (CONTRIB, node.op_type) in FUSED
        and schema_at(node.op_type, opset) is None
    ]
    for node in moved:
        node.domain = CONTRIB
    if moved and all(each.domain != CONTRIB for each in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))
    notice = set_nchwc_block_size(proto.graph)
    return () if notice is None else (notice,)
