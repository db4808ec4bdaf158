"""Output-stationary systolic array with its AXI top."""
