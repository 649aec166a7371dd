"""Why the training of a run has ended, whatever it trains."""

from typing import Literal

Why = Literal["done", "stopped", "finished before"]
"""Done; stopped by a signal; or finished before: the budget was used up when the run was opened."""
