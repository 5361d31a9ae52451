"""The rules of layer-wise relevance propagation, by families of operators."""
