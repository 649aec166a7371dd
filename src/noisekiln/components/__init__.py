"""Components: what can be chosen by name, and the text that describes a choice."""
