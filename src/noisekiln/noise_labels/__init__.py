"""Labels: the number by which a network is told the noise level, one kind a file."""
