"""Turbo Engine's services: registry, builder, envmanager, gateway, console and two example workloads."""

__version__ = "0.1.0"
