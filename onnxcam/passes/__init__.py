"""Rewrite a graph so that the rest of onnxcam can read it, without changing what it computes.

`canonicalize` and `quantization` run when a model is loaded; `expand_functions` and `unneeded_rows` on the copy
of the model that returns gradients. `decomposition` has the table of operators that are replaced by others.
"""
