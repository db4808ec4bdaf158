"""The DRQ machine: a convolution whose sensitive regions have 8 bits, on an array of variable-speed PEs."""
