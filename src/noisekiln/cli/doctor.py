"""`noisekiln doctor`."""

EXAMPLE = "noisekiln doctor"


def command() -> None:
    """Look at this machine: versions, devices, speed, space."""
    from noisekiln.cli._doctor import findings

    for finding in findings():
        mark = {True: "ok  ", False: "look"}[finding.good]
        print(f"{mark}  {finding.what:10} {finding.told}")
