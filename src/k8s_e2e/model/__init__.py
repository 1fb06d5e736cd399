"""Every file of a run directory as a typed model, the settings, and the project profile."""
