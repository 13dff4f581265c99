"""``python -m smp_feedback`` is ``smp-feedback``."""

from smp_feedback.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
