"""python -m archlab.sweep: the sweep with Hydra's own flags (--cfg, --info, --config-dir, launchers)."""

import sys

from archlab.cli.screen import stopping
from archlab.sweep.app import run


def main() -> None:
    with stopping():
        outcome = run(sys.argv[1:], say=lambda text: print(text, file=sys.stderr))
        if outcome is not None:
            print(outcome.report)


if __name__ == "__main__":
    main()
