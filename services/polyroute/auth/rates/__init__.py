"""Limits: how many calls and tokens a minute, how many calls at once, and who holds which share of them."""
