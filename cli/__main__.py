"""`python -m glassmd_cli`, which launchers such as `torchrun -m` start."""

from __future__ import annotations

import sys

from glassmd_cli.app import main

if __name__ == "__main__":
    sys.exit(main())
