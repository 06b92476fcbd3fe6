"""The parts of which the dialect `xai.grpc` is made; use `xai_grpc`."""
