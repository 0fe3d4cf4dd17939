"""Entry point of the training process."""

from __future__ import annotations

import sys
import warnings

if __name__ == "__main__":
    # the libraries below warn about their own future at import; faults come as exceptions
    warnings.simplefilter("ignore")
    from finetuning.training.worker.session import main

    sys.exit(main(sys.argv[1]))
