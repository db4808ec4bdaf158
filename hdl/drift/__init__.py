"""Drift: a fabric of BitGroups that splits into four arrays, with selection, scheduling, buffers and AXI machine."""
