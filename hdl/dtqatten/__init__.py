"""DTQAtten: attention on tokens of 8, 4 and 0 bits, on arrays whose speed follows the precisions inside."""
