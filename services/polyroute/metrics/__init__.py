"""The metrics role: the record of every call, live statistics of deployments, usage sums, Prometheus figures."""
