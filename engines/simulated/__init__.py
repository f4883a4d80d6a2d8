"""The engine with no GPU: a real HTTP server in its own process that knows the truth of what it sent."""
