"""Clusters of nodes that are containers of a Docker engine, made by kind."""
