"""VSSA: variable-speed systolic array of 4-bit MACs, in which a step lasts as long as its slowest product."""
