"""Channels to services of the same process: the semantics of the network without its cost.

A generated stub cannot tell a `LocalChannel` from a real one: deadlines, cancellation in both directions, metadata,
status with details, trailers and back-pressure behave alike (tests/rpc/conformance runs the same cases over both). What
differs is the price: messages are passed, not serialised, and so must be treated as immutable; and a method runs in the
task of whoever waits for it, in a copy of the context, instead of in a task of its own. A stream's method runs only
while its reader waits for the next message, which is back-pressure without a queue.

The contract has unary calls and server streams; a channel refuses to make other kinds (cf. gRPC Java's
InProcessChannelBuilder, which inspired this one).
"""
