"""Names of options and commands that are used elsewhere: a few are taken, others get an exact answer."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

from noisekiln.components.words import answer

SYNONYMS = {"--image-size": "--size", "--num-inference-steps": "--steps", "--num-steps": "--steps"}


class Command(TyperCommand):
    """A command that knows the names which its options have elsewhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command.

        Raises:
            ValueError: For an option that has another name here.
        """
        known = {name for each in self.params for name in (*each.opts, *each.secondary_opts)}
        training = self.name == "train"
        end = args.index("--") if "--" in args else len(args)
        for position, word in enumerate(args[:end]):
            option, equals, value = word.partition("=")
            if not option.startswith("--") or option in known:
                continue
            synonym = SYNONYMS.get(option)
            # In `train`, `--steps` is a setting of the model, and `--num-steps` elsewhere the length of training.
            if synonym in known and not (training and synonym == "--steps"):
                args[position] = synonym + equals + value
                continue
            found = answer("settings" if training else "options", option)
            if found is not None:
                raise ValueError(f"There is no option {option}. {found}")
        return list(super().parse_args(ctx, args))


class Group(TyperGroup):
    """All commands, with the names which they have elsewhere."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names.

        Raises:
            ValueError: For a command that has another name here.
        """
        found = answer("commands", args[0]) if args[0] not in self.commands else None
        if found is not None:
            raise ValueError(f"There is no command {args[0]}. {found}")
        return super().resolve_command(ctx, args)
