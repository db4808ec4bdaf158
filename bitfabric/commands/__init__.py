"""The commands, one thin function each; the work is done in the folders below."""
