"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisekiln.distributed.checksum import check_same_weights
from noisekiln.distributed.sharded import local_shard, merge_shards, to_local
from noisekiln.ema.power import Ema
from noisekiln.errors import Diverged, reason_of
from noisekiln.machine.devices import prepare_for_training
from noisekiln.machine.memory import is_out_of_memory
from noisekiln.training.batches import Batch, BatchSource, Prefetcher, derive_seed
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.gradients import Gradients, LossLike
from noisekiln.training.micro_batch import largest_micro_batch
from noisekiln.training.placement import Placement
from noisekiln.training.precision import Precision
from noisekiln.training.recovery import Recovery
from noisekiln.training.report import Report
from noisekiln.training.state import collect_tensors, restore_tensors
from noisekiln.training.trial import restoring_state

BAD_STEP_DECAY = 0.125  # of a bad step, by each good one after it


def no_stop_signal() -> int:
    """The default `stop` of `Trainer.run`: training is never stopped by a signal."""
    return 0


class Trainer:
    """Trains a module until a budget is used up; progress is counted in images.

    The rows and random numbers of a step are functions of the seed and the images seen. So a resumed run takes the same
    steps as an uninterrupted one, bit for bit; and however a step is split, into micro-batches or over processes, its
    gradient is the same except for the rounding of sums.

    Args:
        module: Module to train: all its parameters that require gradients; the others stay, and are not saved. It
            returns the loss of some rows when called with their columns.
        batches: Function that makes the rows.
        optimizers: Function that makes optimizers for the module: each for some of the trained parameters, together
            for all; the trainer sets their learning rate at every step.
        budget: Limit of training.
        lr: Learning rate over the share of the budget; each step has the rate of its middle.
        batch_size: Images in a step, over all processes.
        seed: Seed of all randomness.
        max_grad_norm: Largest norm of the gradient; larger gradients are scaled down to it.
        ema_lengths: Lengths of the weight averages, as shares of training; the first is that of the run's model.
        max_bad_steps: Bad steps, whose loss or gradient is not finite, that are skipped before training ends with
            `Diverged`; each good step reduces their count by 1/8.
        placement: Device, processes, precision and micro-batch of steps, which change only rounding.

    Attributes:
        images_seen: Images seen in all.
        seconds: Seconds of training in all, interruptions not counted.
        step_start: Images seen before the last step.
        stopped_by: Number of the signal that ended `run`, in this process or in another; 0 if none did.
        previous_world_size: Number of processes that trained the loaded state.
        ema: Averages of the weights.
        gradients: Gradient of a step.
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
        seed: int = 0,
        max_grad_norm: float = 1.0,
        ema_lengths: Sequence[float] = (0.1, 0.05),
        max_bad_steps: int = 10,
        placement: Placement = Placement(),
    ) -> None:
        self.placement, self.ranks = placement, placement.ranks
        if batch_size < self.ranks.world_size:
            raise ValueError(
                f"`batch_size={batch_size}` is less than one image for each of {self.ranks.world_size} processes. "
                "Give a larger batch, or start fewer processes."
            )
        prepare_for_training(placement.device, deterministic=placement.deterministic)
        self.module = module
        self.budget = budget
        self.lr = lr
        self.batch_size = batch_size
        self.seed = seed
        self.max_bad_steps = max_bad_steps
        self.precision = Precision(placement.precision, placement.device)
        self.gradients = Gradients(
            module, batch_size=batch_size, max_norm=max_grad_norm, precision=self.precision, placement=placement
        )
        self._recovery = Recovery(self.gradients)
        self.optimizers = optimizers(module)  # after sharding, which replaces the parameters
        part = self.gradients.parts[self.ranks.rank]
        self._rows = Prefetcher(batches, seed, batch_size, part, ahead=placement.prefetch, device=placement.device)
        self.ema = Ema(module, ema_lengths)
        self.images_seen = 0
        self.step_start = 0
        self.seconds = 0.0
        self.bad_steps, self.stopped_by = 0.0, 0
        self.previous_world_size = self.ranks.world_size

    @property
    def batches(self) -> BatchSource:
        """The function that makes the rows."""
        return self._rows.batches

    @property
    def share(self) -> float:
        """Share of the budget that is used."""
        return self.budget.share(self.seconds, self.images_seen)

    @property
    def micro_batch_size(self) -> int:
        """Images in memory at once, in each process."""
        return self.gradients.micro_batch_size

    @property
    def losses(self) -> list[LossLike]:
        """Losses that the module returned in the last step, one per micro-batch."""
        return self.gradients.losses

    def run(self, stop: Callable[[], int] = no_stop_signal) -> Iterator[Report]:
        """Train until the budget is used up or `stop` returns a signal, yielding after every step.

        Time that the caller spends between steps counts too.

        Args:
            stop: Function that is called after every step and returns the number of the signal to stop, or 0.

        Raises:
            Diverged: If more than `max_bad_steps` recent steps had a loss or gradient that is not finite.
            LostRank: If another process died or hangs.
        """
        self.module.train()
        start_time = time.perf_counter() - self.seconds
        self.stopped_by = 0
        while self.share < 1 and not self.stopped_by:
            with self.ranks.detecting_lost_ranks():
                report = self._step()
            yield report
            signal = stop()
            # All ranks agree on the time, and on whether to stop.
            own = torch.tensor([[time.perf_counter() - start_time, signal]], dtype=torch.float64)
            seconds, signals = self.ranks.all_gather(own, self.ranks.world_size).T
            self.seconds, self.stopped_by = float(seconds.mean()), int(signals.max())

    def trial_step(self) -> None:
        """Compute the gradient of the next step and discard it, which shows whether it fits into memory."""
        self.module.train()
        with restoring_state(self.module, self.optimizers, self.precision):
            self._compute_gradient()

    def choose_micro_batch(self) -> None:
        """Lower `micro_batch_size` to what fits into memory, on devices where that is known in advance."""
        if self.gradients.sharded:
            return
        largest = largest_micro_batch(self.module, self._make_batch(), self.precision)
        if largest is not None:
            of_ranks = self.ranks.all_gather(torch.tensor([largest]), self.ranks.world_size)
            self.gradients.micro_batch_size = min(self.micro_batch_size, max(1, int(of_ranks.min())))

    def check_finite(self) -> None:
        """Raise Diverged if a weight is NaN or infinite in any process, so that it is not saved."""
        norms = torch._foreach_norm([to_local(weight) for weight in self.module.parameters()])
        finite = bool(torch.stack(list(norms)).isfinite().all())  # one transfer from the device
        if self.ranks.all_reduce_sum([finite]) != [self.ranks.world_size]:
            raise Diverged(f"After {self.images_seen} images a weight is NaN or infinite", self.losses)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State of this process for a resumed run: tensors by name, and other state for JSON. All processes call it.

        Raises:
            Diverged: If a weight is NaN or infinite.
            RanksDiffer: If processes that should hold the same weights do not.
        """
        self.check_finite()
        if not self.gradients.sharded:
            check_same_weights(self.module, self.ranks)
        collected = collect_tensors(self.module, self.ema, self.optimizers)
        tensors, sharded = local_shard(collected, is_main=self.ranks.is_main)
        state: dict[str, Any] = {
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "seed": self.seed,
            "world_size": self.ranks.world_size,
            "device": self.placement.device,
            "micro_batch_size": self.micro_batch_size,
            "bad_steps": self.bad_steps,
            "scaler": self.precision.state_dict(),
            "sharded": sharded,
        }
        return tensors, state

    def load_state_dict(self, shards: Sequence[Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned in each process, on any number of processes and any device.

        Args:
            shards: Tensors of each process that saved, by rank.
            state: Other state of the first process.
        """
        restore_tensors(merge_shards(shards, state["sharded"]), self.module, self.ema, self.optimizers)
        self.images_seen, self.seconds = int(state["images_seen"]), float(state["seconds"])
        self.bad_steps, self.previous_world_size = float(state["bad_steps"]), int(state["world_size"])
        self.precision.load_state_dict(state["scaler"])
        unchanged = (self.previous_world_size, state["device"]) == (self.ranks.world_size, self.placement.device)
        if unchanged and self.placement.micro_batch_size is None:  # so that sums are rounded as they were
            self.gradients.micro_batch_size = min(self.micro_batch_size, int(state["micro_batch_size"]))

    def _make_batch(self) -> Batch:
        return self._rows(self.images_seen)

    def _compute_gradient(self) -> tuple[float, float]:
        seed = derive_seed(self.seed, self.images_seen, self.ranks.rank)
        return self._recovery.compute_gradient(self._make_batch, self.optimizers, seed)

    def _step(self) -> Report:
        start_time, self.step_start = time.perf_counter(), self.images_seen
        loss, norm = self._compute_gradient()
        lr, applied = self.lr(self._middle_share(start_time)), math.isfinite(loss) and math.isfinite(norm)
        self.bad_steps = max(0.0, self.bad_steps - BAD_STEP_DECAY) if applied else self.bad_steps + 1
        if applied:
            self._apply(lr)
        self.gradients.clear()
        if self.bad_steps > self.max_bad_steps:
            others = f", and {self.max_bad_steps} other recent steps were skipped" if self.max_bad_steps else ""
            raise Diverged(
                f"After {self.images_seen} images the loss is {loss} and the gradient's norm {norm}{others}",
                self.losses,
            )
        self.images_seen += self.batch_size
        if applied:
            self.ema.update(self.module, self.images_seen)
        share = min(self.share, 1.0)
        return Report(self.images_seen, self.seconds, share, loss, norm, lr, applied, self.micro_batch_size)

    def _middle_share(self, start_time: float) -> float:
        """Share of the budget in the middle of the step whose gradient has just been computed."""
        elapsed = 0.0
        if self.budget.minutes is not None:  # all ranks must agree on the rate
            elapsed = self.ranks.all_reduce_sum([time.perf_counter() - start_time])[0] / self.ranks.world_size
        return self.budget.share(self.seconds + elapsed / 2, self.images_seen + self.batch_size / 2)

    def _apply(self, lr: float) -> None:
        """Update the weights by all optimizers."""
        try:
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.step()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"Memory ran out while the weights were updated ({reason_of(error)}): the optimizer's "
                "moments do not fit. What was saved before is intact. Choose a smaller `model`, or `optimizer=adamw`."
            ) from error
