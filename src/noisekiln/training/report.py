"""The state of training after a step, and its line in a log."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Report:
    """State of training after a step.

    Attributes:
        images_seen: Images seen in all.
        seconds: Seconds of training before the step, interruptions not counted.
        share: Share of the budget that is used, 0 to 1.
        loss: Mean loss of the step, over all processes.
        grad_norm: Norm of the gradient before clipping.
        lr: Learning rate of the step.
        applied: Whether the weights were changed: not, if loss or gradient are not finite.
        micro_batch_size: Images in memory at once, in each process.
    """

    images_seen: int
    seconds: float
    share: float
    loss: float
    grad_norm: float
    lr: float
    applied: bool = True
    micro_batch_size: int = 0


def report_record(report: Report) -> dict[str, float]:
    """A report as a line of a log: rounded numbers by name."""
    values = asdict(report)
    logged = ("seconds", "share", "loss", "grad_norm", "lr")
    return {"images_seen": report.images_seen} | {name: float(f"{values[name]:.6g}") for name in logged}
