"""Multipliers and other arithmetic."""
