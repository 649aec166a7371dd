"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from noisekiln.training.budget import Budget, Rate
from noisekiln.training.ema import Ema
from noisekiln.training.memory import TooLarge, free, ran_out
from noisekiln.training.peers import Peers, gathering
from noisekiln.training.precision import Precision
from noisekiln.training.rows import Ahead, Batches, Rows, cut, share_out
from noisekiln.training.sharded import full, local, own, whole
from noisekiln.training.state import collected, put_back


class HasValue(Protocol):
    """All that the trainer needs of a loss."""

    @property
    def value(self) -> Tensor:
        """0-d, the mean over rows, to be differentiated."""


class Diverged(RuntimeError):
    """Step after step the loss or a gradient is not a number; the weights are those from before them.

    Attributes:
        losses: What the module returned in the last of these steps, micro-batch by micro-batch.
    """

    def __init__(self, message: str, losses: Sequence[HasValue] = ()) -> None:
        super().__init__(message)
        self.losses = losses


@dataclass(frozen=True)
class Report:
    """Where training stands after a step.

    Attributes:
        images_seen: In all.
        seconds: Of training in all, interruptions not counted.
        share: Of the budget, 0 to 1.
        loss: Of this step.
        grad_norm: Before clipping.
        rate: The learning rate of this step.
        taken: Whether the step was taken: not, if loss or gradient are not finite.
        micro: Images that were in memory at once.
    """

    images_seen: int
    seconds: float
    share: float
    loss: float
    grad_norm: float
    rate: float
    taken: bool = True
    micro: int = 0


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
        rate: The learning rate over the elapsed share.
        batch: Images in a step, over all processes.
        micro: Images in memory at once, in each process; what fits, unless given.
        seed: Of everything random.
        clip: Largest norm of the gradient.
        ema_lengths: Of the averages, as shares of training; the first is that of the run's model.
        survive: Steps in a row that may come to nothing, because loss or gradient are not finite.
        precision: How many bits the network runs in.
        peers: The processes that train together.
        blocks: If given, weights are sharded over processes, these parts of the module one by one.
        ahead: Whether the next rows are made while a step runs; for devices that leave the processor idle.

    Attributes:
        stop: Asked after every step for the number of a signal to stop, or 0.
        stopped_by: The signal that ended `run`, here or in another process.
        last: What the module returned in the last step, micro-batch by micro-batch.
        began: Images seen before that step.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: Batches,
        optimizers: Callable[[nn.Module], Sequence[torch.optim.Optimizer]],
        *,
        budget: Budget,
        rate: Rate,
        batch: int,
        micro: int | None = None,
        seed: int = 0,
        clip: float = 1.0,
        ema_lengths: Sequence[float] = (0.1, 0.05),
        survive: int = 10,
        precision: Precision | None = None,
        peers: Peers | None = None,
        blocks: Sequence[nn.Module] | None = None,
        ahead: bool = False,
    ) -> None:
        self.peers, self.precision = peers or Peers(), precision or Precision()
        if batch < self.peers.count:
            raise ValueError(
                f"A batch of {batch} images is less than one for each of {self.peers.count} processes. "
                "Give a larger batch, or start fewer processes."
            )
        self.module, self.forward = module, self.peers.spread(module, blocks)
        self.sharded = blocks is not None and self.peers.count > 1
        self.optimizers = optimizers(module)  # over what sharding has made of the parameters
        self.budget, self.rate, self.batch, self.seed, self.clip = budget, rate, batch, seed, clip
        self.survive = survive
        self.stop: Callable[[], int] = lambda: 0
        self.stopped_by = 0
        self.parts = share_out(batch, self.peers.count)
        self.micro = min(micro or batch, max(map(len, self.parts)))
        self.rows = Ahead(batches, seed, batch, self.parts[self.peers.rank], ahead=ahead)
        self.ema = Ema(module, ema_lengths)
        self.last: list[HasValue] = []
        self.images_seen = self.began = 0
        self.seconds = 0.0
        self.in_vain = 0

    @property
    def share(self) -> float:
        """How much of the budget is gone."""
        return self.budget.share(self.seconds, self.images_seen)

    def run(self) -> Iterator[Report]:
        """Train until the budget is spent or `stop` says so, yielding after every step; all time in between counts.

        Raises:
            Diverged: When more steps in a row came to nothing than may.
            LostPeer: When another process died or hangs.
        """
        self.module.train()
        begun = time.perf_counter() - self.seconds
        self.stopped_by = 0
        while self.share < 1 and not self.stopped_by:
            with self.peers.listening():
                report = self._step()
            yield report
            asked = self.stop()
            # All agree on what time it is, and whether to stop.
            seconds, signals, who = self.peers.summed([time.perf_counter() - begun, asked, asked > 0])
            self.seconds, self.stopped_by = seconds / self.peers.count, round(signals / who) if who else 0

    def rehearse(self) -> None:
        """Take the next step's gradient and forget it: `micro` is then what fits into memory."""
        self.module.train()
        self._gradients(self.rows(self.images_seen))
        self._clear()

    def _step(self) -> Report:
        self.began = self.images_seen
        value, norm = self._gradients(self.rows(self.images_seen))
        rate, taken = self.rate(self.share), math.isfinite(value) and math.isfinite(norm)
        self.in_vain = 0 if taken else self.in_vain + 1
        if taken:
            self._apply(rate)
        self._clear()
        if self.in_vain > self.survive:
            raise Diverged(
                f"After {self.images_seen} images the loss is {value} and the gradient's norm {norm}"
                + (f", and {self.survive} steps before it came to nothing too" if self.survive else ""),
                self.last,
            )
        self.images_seen += self.batch
        if taken:
            self.ema.update(self.module, self.images_seen)
        share = min(self.share, 1.0)
        return Report(self.images_seen, self.seconds, share, value, norm, rate, taken, self.micro)

    def _gradients(self, rows: Rows) -> tuple[float, float]:
        """The loss of the rows, and the norm of its gradient; in smaller pieces whenever memory runs out."""
        while True:
            try:
                return self._accumulate(rows)
            except RuntimeError as error:
                if not ran_out(error) or (self.peers.count > 1 and not isinstance(error, TooLarge)):
                    raise
                self._clear()
                self._halve(error)

    def _accumulate(self, rows: Rows) -> tuple[float, float]:
        there = len(cast(Tensor, rows[0]))
        count = min(-(-max(map(len, self.parts)) // self.micro), *map(len, self.parts))
        pieces = share_out(there, count)
        self.last, short = [], False
        values: list[Tensor] = []
        try:
            for number, piece in enumerate(pieces, 1):
                weight = len(piece) / self.batch  # of its mean, in that of all rows of all processes
                with gathering(self.forward, number == count), self.precision.autocast():
                    loss: HasValue = self.forward(*cut(rows, slice(piece.start, piece.stop)))
                    self.last.append(loss)
                    values.append(weight * loss.value.detach())
                    counted = loss.value * (weight * self.peers.count)  # processes are averaged over
                    if number < count:
                        self.precision.backward(counted)
        except RuntimeError as error:
            if not ran_out(error) or self.peers.count == 1:
                raise
            if self.sharded:  # the others are in the midst of gathering weights
                raise ValueError(
                    f"Memory ran out in process {self.peers.rank}, with {self.micro} images at once. "
                    "Sharded weights leave no way back within a run: give the same command with a smaller --micro."
                ) from error
            short = True
        # All processes agree here, before the pass that needs them all.
        value, fell_short = self.peers.summed([float(sum(values)), short])
        if fell_short:
            raise TooLarge
        self.precision.backward(counted)  # of no number too: sharded weights keep the pieces' gradients until this
        self.precision.unscale(self.optimizers)
        norm = float(full(nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)))
        self.precision.settle()
        return value, norm

    def _apply(self, rate: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def _clear(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _halve(self, error: RuntimeError) -> None:
        if self.micro == 1:
            raise ValueError(
                "Not even one image fits into memory with this network. Take a smaller --model or --size, or a device "
                "with more memory."
            ) from error
        self.micro = -(-self.micro // 2)
        free()
        if self.peers.count > 1:
            del self.forward  # what it had begun to gather is forgotten with it
            self.forward = self.peers.spread(self.module)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a resumed run needs, as far as this process has it: tensors by name, and numbers.

        Raises:
            Diverged: If a weight is not finite: what is on disk is better.
        """
        sound = all(bool(local(weight).isfinite().all()) for weight in self.module.parameters())
        if self.peers.summed([sound]) != [self.peers.count]:
            raise Diverged(f"After {self.images_seen} images a weight is no longer a number", self.last)
        tensors, sharded = own(collected(self.module, self.ema, self.optimizers), first=self.peers.first)
        numbers: dict[str, Any] = {"images_seen": self.images_seen, "seconds": self.seconds, "seed": self.seed}
        numbers |= {"micro": self.micro, "in_vain": self.in_vain, "scaler": self.precision.state()}
        return tensors, numbers | {"sharded": sharded}

    def load_state(self, parts: Sequence[Mapping[str, Tensor]], numbers: Mapping[str, Any]) -> None:
        """Go on from what the `state` of all processes returned, however many they were."""
        put_back(whole(parts, numbers.get("sharded", ())), self.module, self.ema, self.optimizers)
        self.images_seen, self.seconds = int(numbers["images_seen"]), float(numbers["seconds"])
        self.in_vain = int(numbers.get("in_vain", 0))
        self.micro = min(self.micro, int(numbers.get("micro", self.micro)))  # sums are rounded as they were
        self.precision.load_state(numbers.get("scaler", {}))


def as_line(report: Report) -> dict[str, float]:
    """A report as numbers by name, rounded for a log."""
    told = asdict(report)
    logged = ("seconds", "share", "loss", "grad_norm", "rate")
    return {"images_seen": report.images_seen} | {name: float(f"{told[name]:.6g}") for name in logged}
