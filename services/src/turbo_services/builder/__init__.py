"""builder: a root package and all it needs become the graph of an environment."""
