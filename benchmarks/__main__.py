"""Every benchmark, one after the other: ``python -m benchmarks``."""

from benchmarks import memory, tracking_cost, training_loop

if __name__ == "__main__":
    training_loop.main()
    memory.main()
    tracking_cost.main()
