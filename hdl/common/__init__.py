"""Blocks that every system uses: streams, memories, buses."""
