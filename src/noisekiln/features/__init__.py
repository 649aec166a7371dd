"""Features: frozen networks whose outputs scores compare, one per file."""
