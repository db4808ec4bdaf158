"""The machine around a GEMM array: loader, buffers, accumulators, drain, registers, AXI top."""
