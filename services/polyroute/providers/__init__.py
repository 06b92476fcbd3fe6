"""The vendors: one small file each, the transport that reaches them, and the embedded model."""
