"""The command line: starts the gateway, and asks its services what an operator wants to know."""
