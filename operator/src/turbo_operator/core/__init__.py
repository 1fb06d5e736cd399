"""The pure core: no input, no output, no clock. The same arguments give the same bytes."""
