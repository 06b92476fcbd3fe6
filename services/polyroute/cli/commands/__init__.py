"""The commands' names, options and help.

What a command does is in the module of `polyroute.cli` that it imports when it runs, and not before: `--help`, and a
process that plays one role, must not wait for what all the other commands need.
"""
