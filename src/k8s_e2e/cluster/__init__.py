"""Clusters: making one, loading images into it, removing it. All a later layer needs is a kubeconfig."""
