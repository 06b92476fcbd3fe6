"""The pieces of the `anthropic.*` dialects; their entrances are the modules of the same names beside this folder."""
