"""The five stages: what a notebook calls, one function each."""
