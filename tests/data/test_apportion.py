from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.apportion import Apportioner

weights = st.lists(st.floats(0.001, 1000), min_size=1, max_size=8)


@given(weights, st.data())
def test_every_prefix_holds_the_shares_to_within_one_document(
    weights: list[float], data: st.DataObject
) -> None:
    longest = data.draw(st.sampled_from([1, 7, 1000]))
    sizes = st.integers(1, longest) | st.just(longest) | st.just(1)
    apportioner = Apportioner(weights, longest)
    for size in data.draw(st.lists(sizes, max_size=150)):
        apportioner.give(apportioner.choose(), size)
        for weight, given_ in zip(apportioner.weights, apportioner.given, strict=True):
            assert abs(weight * apportioner.total - given_) <= longest * (1 + 1e-6)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6))
def test_whole_number_weights_are_met_exactly_at_each_round(weights: list[int]) -> None:
    apportioner = Apportioner([float(w) for w in weights], 1)
    for _ in range(3 * sum(weights)):
        apportioner.give(apportioner.choose(), 1)
    assert apportioner.given == [3 * weight for weight in weights]


def test_a_source_of_weight_zero_gives_nothing() -> None:
    apportioner = Apportioner([1.0, 0.0, 1.0], 1)
    for _ in range(10):
        apportioner.give(apportioner.choose(), 1)
    assert apportioner.given == [5, 0, 5]
    assert apportioner.shares() == [0.5, 0.0, 0.5]
