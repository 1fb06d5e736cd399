"""gateway: the way into the environments."""
