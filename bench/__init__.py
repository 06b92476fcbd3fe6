"""What a call costs: a mock vendor, a load generator, CPU accounting and the table they fill. `python -m bench -h`."""
