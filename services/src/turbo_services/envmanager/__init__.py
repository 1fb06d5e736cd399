"""envmanager: environments, from their creation to the last trace of them."""
