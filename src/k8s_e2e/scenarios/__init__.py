"""Scenario files, and the engine that runs them against a live platform.

A file is read with its line numbers (`source`), its templates are expanded (`templates`), each step is checked against
the model of its kind (`model`), and every `${name}` must be known (`references`): all before the first step runs
(`loader`). `engine` then runs step after step; one module a family of step kinds knows how.
"""
