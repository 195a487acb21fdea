"""``gcmpi codes``: look at codes without running anything."""
