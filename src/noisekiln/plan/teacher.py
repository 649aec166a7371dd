"""Checks of a teacher: what its student takes from it, and whether both fit together."""

import torch

from noisekiln.codecs.base import Codec
from noisekiln.components.registry import name_of
from noisekiln.components.spec import describe, matches
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings


def settings_from_teacher(settings: Settings, teacher: Diffusion) -> Settings:
    """The settings of a student that is trained from scratch, with the codec of its teacher.

    Raises:
        ValueError: If the settings request another codec.
    """
    if settings.codec is not None and not matches(Codec, settings.codec, teacher.codec):
        raise ValueError(
            f"`codec={settings.codec}` was requested, but `teacher={settings.teacher}` has "
            f"{describe(teacher.codec, include_defaults=True)}: a student works on the same x as its teacher. "
            "Omit `codec`: that of the teacher is used."
        )
    return settings.replace(codec=name_of(type(teacher.codec)))


def check_teacher_fits(student: Diffusion, teacher: Diffusion, settings: Settings) -> None:
    """Check that a teacher works on the x of its student, from the same conditions and source images.

    A student without conditions may have any teacher, which is then used without conditions.

    Raises:
        ValueError: If it does not.
    """
    about = f"`teacher={settings.teacher}` has"
    if not _is_same_codec(student.codec, teacher.codec):
        own, its = (describe(model.codec, include_defaults=True) for model in (student, teacher))
        weights = " with other weights" if own == its else ""
        raise ValueError(
            f"{about} the codec {its}, and the model to train has {own}{weights}: their x differ. "
            "Fine-tune the teacher itself (`start`), or train without `start`: then its codec is used."
        )
    task, its_task = (model.task and describe(model.task, include_defaults=True) for model in (student, teacher))
    if task != its_task:
        raise ValueError(
            f"{about} the task {its_task or 'generate'}, and `task={task or 'generate'}` was requested: it does not "
            f"know this task. Give `task={its_task or 'generate'}`, or another teacher."
        )
    cond, its_cond = (model.conditioner and name_of(type(model.conditioner)) for model in (student, teacher))
    if cond is not None and cond != its_cond:
        raise ValueError(
            f"{about} `cond={its_cond or 'none'}`, and the model to train has `cond={cond}`: it cannot teach "
            f"conditions that it does not know. Give `cond={its_cond or 'none'}`, or another teacher."
        )


def _is_same_codec(one: Codec, other: Codec) -> bool:
    if describe(one, include_defaults=True) != describe(other, include_defaults=True):
        return False
    mine, its = one.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[name].cpu(), its[name].cpu()) for name in mine)
