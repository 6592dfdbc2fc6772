"""The one-machine product: the embedded engines and the supervisor of all its processes."""
