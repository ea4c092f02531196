"""What runs inside a worker process: the base class, the runtime, samples, and the user's own workers."""
