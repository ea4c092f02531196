"""What runs a user's worker: connects, consumes, settles, drains, and tells the supervisor.

Two threads. The I/O thread (`wire`) owns every connection and serves the heartbeats, so a handler may take as long as
it likes. The main thread (`handling`) runs the handler: signals, crashes and `asyncio.run` behave as in plain Python.
"""
