"""Real workloads: tensors of a small language model, and the GEMM shapes of well-known networks."""
