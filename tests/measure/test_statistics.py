from edgeopt.measure.statistics import Percentiles, percentiles


def test_nearest_rank_of_a_hundred() -> None:
    assert percentiles(range(100, 0, -1)) == Percentiles(p50=50, p90=90, p99=99, n=100)


def test_few_samples_give_the_maximum() -> None:
    assert percentiles([3, 1, 2]) == Percentiles(p50=2, p90=3, p99=3, n=3)
    assert percentiles([7]) == Percentiles(p50=7, p90=7, p99=7, n=1)
