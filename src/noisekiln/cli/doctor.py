"""`noisekiln doctor`."""

EXAMPLE = "noisekiln doctor"


def command() -> None:
    """Check this machine: versions, devices, speed, free space. The report names no files: paste it into an issue."""
    from noisekiln.cli._doctor import findings

    for finding in findings():
        mark = {True: "ok  ", False: "warn"}[finding.good]
        print(f"{mark}  {finding.what:10} {finding.text}")
