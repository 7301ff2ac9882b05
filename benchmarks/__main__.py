"""Every benchmark, one after the other: ``python -m benchmarks``."""

from benchmarks import bookkeeping, halving, memory, statistics_simulation, study_speed, tracking_cost, training_loop

if __name__ == "__main__":
    training_loop.main()
    memory.main()
    tracking_cost.main()
    bookkeeping.main()
    study_speed.main()
    halving.main()
    statistics_simulation.main()
