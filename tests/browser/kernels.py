"""Make small environments with older kernels; print what CHUNKUP_KERNELS should be.

    CHUNKUP_KERNELS=$(python tests/browser/kernels.py FOLDER) pytest tests/browser

ipykernel 7.4 and later, 7.0 to 7.3, and 6 deliver a widget's messages in three ways.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

VERSIONS = ("7.3.0", "6.31.0")


def main(folder: Path) -> None:
    """Make what is not there yet."""
    project = Path(__file__).parents[2]
    found = []
    for version in VERSIONS:
        name = "k" + version.replace(".", "")
        python = folder / name / "bin" / "python"
        if not python.exists():
            venv.create(folder / name, with_pip=True)
            wanted = ["-e", f"{project}[sandbox]", f"ipykernel=={version}"]
            command = [str(python), "-m", "pip", "install", "--quiet", *wanted]
            subprocess.run(command, check=True, stdout=sys.stderr)
        found.append(f"{name}={python}")
    print(":".join(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
