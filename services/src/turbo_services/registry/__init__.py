"""registry: packages and what they depend on."""
