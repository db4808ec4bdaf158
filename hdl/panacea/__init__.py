"""Panacea: bit-slice GEMM core that skips frequent slice-vectors, its memories, post-processing unit and AXI top."""
