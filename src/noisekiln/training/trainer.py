"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.sharded import local_shard, merge_shards, to_local
from noisekiln.ema.power import Ema
from noisekiln.errors import Diverged
from noisekiln.machine.memory import is_out_of_memory
from noisekiln.training.batches import Batch, BatchSource, Prefetcher, derive_seed
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.gradients import Gradients
from noisekiln.training.precision import Precision
from noisekiln.training.state import collected, put_back

MOMENTS = 2  # that an optimizer keeps of a weight at most
BAD_STEP_DECAY = 0.125  # of a step that came to nothing, by each good one after it


@dataclass(frozen=True)
class Report:
    """Where training stands after a step.

    Attributes:
        images_seen: In all.
        seconds: Of training in all, interruptions not counted.
        share: Of the budget, 0 to 1.
        loss: Of this step.
        grad_norm: Before clipping.
        lr: The learning rate of this step.
        applied: Whether the step was applied: not, if loss or gradient are not finite.
        micro_batch_size: Images that were in memory at once.
    """

    images_seen: int
    seconds: float
    share: float
    loss: float
    grad_norm: float
    lr: float
    applied: bool = True
    micro_batch_size: int = 0


class Trainer:
    """Trains a module until a budget is spent; progress is counted in images.

    The data and the randomness of a step are functions of the seed and the images seen, whoever asks for which rows of
    it. So an interrupted run that is resumed takes the same steps as an uninterrupted one, bit for bit; and however a
    step is cut, into micro-batches or over processes, its gradient is the same but for the rounding of sums.

    Args:
        module: What is trained: all its parameters that require gradients; the others stay, and are not saved. Called
            with the columns of some rows, it returns their loss.
        batches: What makes the rows.
        optimizers: Makes them for the module, each over some of the trained parameters, together over all; their rate
            is set at every step.
        budget: When to stop.
        lr: The learning rate over the elapsed share.
        batch_size: Images in a step, over all processes.
        micro_batch_size: Images in memory at once, in each process; what fits, unless given.
        seed: Of everything random.
        clip: Largest norm of the gradient.
        ema_lengths: Of the averages, as shares of training; the first is that of the run's model.
        max_bad_steps: Steps that may come to nothing, because loss or gradient are not finite; eight good ones make up for
            one of them.
        precision: How many bits the network runs in.
        ranks: The processes that train together.
        blocks: If given, weights are sharded over processes, these parts of the module one by one.
        ahead: Whether the next rows are made while a step runs; for devices that leave the processor idle.

    Attributes:
        stop: Asked after every step for the number of a signal to stop, or 0.
        stopped_by: The signal that ended `run`, here or in another process.
        gradients: Takes them; has what the module returned in the last step.
        began: Images seen before that step.
        previous_world_size: How many processes trained it before.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: BatchSource,
        optimizers: Callable[[nn.Module], Sequence[torch.optim.Optimizer]],
        *,
        budget: Budget,
        lr: LearningRate,
        batch_size: int,
        micro_batch_size: int | None = None,
        seed: int = 0,
        clip: float = 1.0,
        ema_lengths: Sequence[float] = (0.1, 0.05),
        max_bad_steps: int = 10,
        precision: Precision | None = None,
        ranks: Ranks | None = None,
        blocks: Sequence[nn.Module] | None = None,
        ahead: bool = False,
    ) -> None:
        self.ranks, self.precision = ranks or Ranks(), precision or Precision()
        if batch_size < self.ranks.world_size:
            raise ValueError(
                f"A batch of {batch_size} images is less than one for each of {self.ranks.world_size} processes. "
                "Give a larger batch, or start fewer processes."
            )
        self.module = module
        self.gradients = Gradients(
            module,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            clip=clip,
            precision=self.precision,
            ranks=self.ranks,
            blocks=blocks,
        )
        self.optimizers = optimizers(module)  # over what sharding has made of the parameters
        self.budget, self.lr, self.batch_size, self.seed = budget, lr, batch_size, seed
        self.max_bad_steps = max_bad_steps
        self.stop: Callable[[], int] = lambda: 0
        self.stopped_by = 0
        self.rows = Prefetcher(batches, seed, batch_size, self.gradients.parts[self.ranks.rank], ahead=ahead)
        self.ema = Ema(module, ema_lengths)
        self.images_seen = self.began = 0
        self.seconds = 0.0
        self.bad_steps = 0.0
        self.chosen, self.previous_world_size = micro_batch_size is not None, self.ranks.world_size

    @property
    def share(self) -> float:
        """How much of the budget is gone."""
        return self.budget.share(self.seconds, self.images_seen)

    def run(self) -> Iterator[Report]:
        """Train until the budget is spent or `stop` says so, yielding after every step; all time in between counts.

        Raises:
            Diverged: When more steps in a row came to nothing than may.
            LostRank: When another process died or hangs.
        """
        self.module.train()
        begun = time.perf_counter() - self.seconds
        self.stopped_by = 0
        while self.share < 1 and not self.stopped_by:
            with self.ranks.detecting_lost_ranks():
                report = self._step()
            yield report
            asked = self.stop()
            # All agree on what time it is, and whether to stop.
            mine = torch.tensor([[time.perf_counter() - begun, asked]], dtype=torch.float64)
            seconds, signals = self.ranks.all_gather(mine, self.ranks.world_size).T
            self.seconds, self.stopped_by = float(seconds.mean()), int(signals.max())

    def trial_step(self) -> None:
        """Take the next step's gradient and forget it: what fits into memory is then known.

        The moments of optimizers, which they make in their first step, are given their room meanwhile.
        """
        self.module.train()
        scale, buffers = self.precision.state(), [buffer.clone() for buffer in self.module.buffers()]
        room = [
            torch.empty_like(weight)
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for weight in group["params"]
            for _ in range(0 if weight in optimizer.state else MOMENTS)
        ]
        try:
            self._gradient()
        finally:
            self.gradients.clear()
            room.clear()
            self.precision.load_state(scale)
            for buffer, before in zip(self.module.buffers(), buffers, strict=True):
                buffer.copy_(before)

    def fit(self) -> None:
        """Have steps cut into pieces that fit into the memory that is free, where that is known before."""
        self.gradients.fit(self._rows, self.precision.device)

    def _rows(self) -> Batch:
        return self.rows(self.images_seen)

    def _gradient(self) -> tuple[float, float]:
        seed = derive_seed(self.seed, self.images_seen, self.ranks.rank)
        return self.gradients.take(self._rows, self.optimizers, seed)

    def _step(self) -> Report:
        self.began = self.images_seen
        value, norm = self._gradient()
        lr, applied = self.lr(self.share), math.isfinite(value) and math.isfinite(norm)
        self.bad_steps = max(0.0, self.bad_steps - BAD_STEP_DECAY) if applied else self.bad_steps + 1
        if applied:
            self._apply(lr)
        self.gradients.clear()
        if self.bad_steps > self.max_bad_steps:
            raise Diverged(
                f"After {self.images_seen} images the loss is {value} and the gradient's norm {norm}"
                + (f", and {self.max_bad_steps} others lately came to nothing too" if self.max_bad_steps else ""),
                self.gradients.losses,
            )
        self.images_seen += self.batch_size
        if applied:
            self.ema.update(self.module, self.images_seen)
        share, micro = min(self.share, 1.0), self.gradients.micro_batch_size
        return Report(self.images_seen, self.seconds, share, value, norm, lr, applied, micro)

    def _apply(self, lr: float) -> None:
        try:
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.step()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"Memory ran out while the weights took a step ({str(error).splitlines()[0]}): the optimizer's moments "
                "do not fit. What was saved before is intact. Take a smaller --model, or --optimizer adamw."
            ) from error

    def check(self) -> None:
        """Raise Diverged if a weight is not finite, in any process: what is on disk is better."""
        norms = torch._foreach_norm([to_local(weight) for weight in self.module.parameters()])
        sound = bool(torch.stack(list(norms)).isfinite().all())  # one look at the device
        if self.ranks.all_reduce_sum([sound]) != [self.ranks.world_size]:
            raise Diverged(f"After {self.images_seen} images a weight is no longer a number", self.gradients.losses)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a resumed run needs, as far as this process has it: tensors by name, and numbers.

        Raises:
            Diverged: If a weight is not finite.
        """
        self.check()
        tensors, sharded = local_shard(collected(self.module, self.ema, self.optimizers), first=self.ranks.is_main)
        numbers: dict[str, Any] = {
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "seed": self.seed,
            "processes": self.ranks.world_size,
            "micro_batch_size": self.gradients.micro_batch_size,
            "bad_steps": self.bad_steps,
            "scaler": self.precision.state(),
        }
        return tensors, numbers | {"sharded": sharded}

    def load_state(self, parts: Sequence[Mapping[str, Tensor]], numbers: Mapping[str, Any]) -> None:
        """Go on from what the `state` of all processes returned, however many they were."""
        put_back(merge_shards(parts, numbers.get("sharded", ())), self.module, self.ema, self.optimizers)
        self.images_seen, self.seconds = int(numbers["images_seen"]), float(numbers["seconds"])
        self.bad_steps = float(numbers.get("bad_steps", 0.0))
        self.previous_world_size = int(numbers.get("processes", self.ranks.world_size))
        if not self.chosen and self.previous_world_size == self.ranks.world_size:  # sums are rounded as they were
            self.gradients.micro_batch_size = min(
                self.gradients.micro_batch_size, int(numbers.get("micro_batch_size", self.batch_size))
            )
        self.precision.load_state(numbers.get("scaler", {}))


def as_line(report: Report) -> dict[str, float]:
    """A report as numbers by name, rounded for a log."""
    told = asdict(report)
    logged = ("seconds", "share", "loss", "grad_norm", "lr")
    return {"images_seen": report.images_seen} | {name: float(f"{told[name]:.6g}") for name in logged}
