"""Weight-stationary systolic array with its AXI top."""
