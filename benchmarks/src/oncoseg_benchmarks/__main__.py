"""``python -m oncoseg_benchmarks``, which is how ``torchrun`` starts it."""

from oncoseg_benchmarks.cli import main

if __name__ == "__main__":
    main()
