"""console: the platform for people, in a browser."""
