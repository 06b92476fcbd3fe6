"""The doors: HTTP for the clients people have, gRPC for internal services, and the flow of a call behind both."""
