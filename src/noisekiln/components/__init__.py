"""Components: what can be chosen by name, the text that describes a choice, and settings with their rules."""
