"""Content of items against scikit-learn; what new items must not reach: vocabulary, weights, directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer

from recsys_zoo.errors import InputError
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.nn.content import ItemContent, directions, tfidf
from tests import toys

ITEMS, WIDTH, NEW = 40, 15, 10  # the last ten items are new
TOKENS = toys.random_lists(ITEMS, WIDTH, 0.3)
KNOWN = torch.arange(ITEMS) < ITEMS - NEW
TRAIN = ItemLists.of(torch.arange(ITEMS - NEW) % 7, torch.arange(ITEMS - NEW), 7, ITEMS)


def with_marker(width: int = WIDTH) -> ItemLists:
    """All new items have one token more, which nobody else has."""
    item, token = TOKENS.pairs()
    new = torch.arange(ITEMS - NEW, ITEMS)
    tokens = torch.cat([token, torch.full((NEW,), width)])
    return ItemLists.of(torch.cat([item, new]), tokens, ITEMS, width + 1)


def content(tokens: ItemLists = TOKENS, width: int = WIDTH, kind: str = "columns", dim: int = 6
            ) -> ItemContent:
    torch.manual_seed(1)
    found = ItemContent(kind, dim, ITEMS)
    found.give(tokens, width)
    found.fit(TRAIN)
    return found


def test_tfidf_is_that_of_scikit_learn():
    counts = toys.matrix(TOKENS, WIDTH).numpy()
    expected = TfidfTransformer().fit(counts[KNOWN.numpy()]).transform(counts)
    found = tfidf(TOKENS, WIDTH, KNOWN).toarray()
    np.testing.assert_allclose(found, expected.toarray(), rtol=1e-5, atol=1e-6)


def test_directions_are_those_of_a_dense_svd_of_the_known_rows():
    """By their inner products, which do not depend on signs; then scikit-learn's own."""
    rows = tfidf(TOKENS, WIDTH, KNOWN)
    found = directions(rows, KNOWN, 6)
    dense = rows.toarray().astype(np.float64)
    right = np.linalg.svd(dense[KNOWN.numpy()], full_matrices=False)[2][:6]
    place = dense @ right.T
    place /= np.linalg.norm(place, axis=1, keepdims=True)
    np.testing.assert_allclose(found @ found.T, place @ place.T, atol=2e-3)  # randomised, float32
    svd = TruncatedSVD(6, algorithm="arpack", random_state=0).fit(dense[KNOWN.numpy()])
    other = svd.transform(dense)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    np.testing.assert_allclose(found @ found.T, other @ other.T, atol=2e-3)


def test_more_directions_than_there_are_stay_empty():
    found = directions(tfidf(TOKENS, WIDTH, KNOWN), KNOWN, 99)
    assert found.shape == (ITEMS, 99)
    assert not found[:, WIDTH:].any()
    some = toys.matrix(TOKENS, WIDTH).sum(1).numpy() > 0
    np.testing.assert_allclose(np.linalg.norm(found, axis=1)[some], 1, rtol=1e-5)


def test_a_marker_of_new_items_reaches_nothing():
    """Neither the weights of the others, nor any direction, nor the new items themselves."""
    for dim in (0, 6):
        plain, marked = content(dim=dim), content(with_marker(), WIDTH + 1, dim=dim)
        if dim:
            assert torch.equal(plain.vectors, marked.vectors)
        else:
            assert torch.equal(plain.rows.values, marked.rows.values)
            assert torch.equal(plain.rows.col, marked.rows.col)
            assert WIDTH not in marked.rows.col.tolist()


def test_the_marker_would_be_seen_if_its_items_were_known():
    marked = tfidf(with_marker(), WIDTH + 1, torch.ones(ITEMS, dtype=torch.bool))
    assert marked.toarray()[:, WIDTH].any()
    rows = tfidf(TOKENS, WIDTH, torch.ones(ITEMS, dtype=torch.bool))
    assert not np.allclose(rows.toarray(), tfidf(TOKENS, WIDTH, KNOWN).toarray())


def test_other_tokens_of_new_items_change_nothing_of_the_known_ones():
    item, token = TOKENS.pairs()
    other = torch.where(KNOWN[item], token, (token + 5) % WIDTH)
    changed = content(ItemLists.of(item, other, ITEMS, WIDTH))
    assert torch.equal(content().vectors[KNOWN], changed.vectors[KNOWN])
    assert not torch.equal(content().vectors[~KNOWN], changed.vectors[~KNOWN])


def test_what_is_remembered_is_the_callers_own():
    rows = tfidf(TOKENS, WIDTH, KNOWN)
    first = directions(rows, KNOWN, 6)
    expected = first.copy()
    first[:] = 7
    assert np.array_equal(directions(rows, KNOWN, 6), expected)
    assert not np.array_equal(directions(rows, ~KNOWN, 6), expected)
    for dim in range(2, 9):  # more than are remembered
        assert directions(rows, KNOWN, dim).shape == (ITEMS, dim)
    assert np.array_equal(directions(rows, KNOWN, 6), expected)


def test_given_vectors_are_turned_by_the_directions_of_known_items():
    """As a dense SVD of the known rows has it, by inner products; what new items have turns nothing."""
    rows = np.random.default_rng(0).normal(size=(ITEMS, 9)) * 7
    rows[[3, ITEMS - 1]] = 0

    def vectors(given: np.ndarray, dim: int) -> ItemContent:
        found = ItemContent("vectors", dim, ITEMS)
        found.give_vectors(given)
        found.fit(TRAIN)
        return found

    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    right = np.linalg.svd(unit[KNOWN.numpy()], full_matrices=False)[2][:4]
    place = unit @ right.T
    place /= np.maximum(np.linalg.norm(place, axis=1, keepdims=True), 1e-9)
    found = vectors(rows, 4).vectors.numpy()
    np.testing.assert_allclose(found @ found.T, place @ place.T, atol=1e-4)
    whole = vectors(rows, 0).rows
    dense = csr_matrix((whole.values.numpy(), whole.col.numpy(), whole.crow.numpy()), rows.shape).toarray()
    np.testing.assert_allclose(dense, unit, atol=1e-6)
    other = np.where(KNOWN[:, None].numpy(), rows, rows[::-1])
    assert torch.equal(vectors(other, 4).vectors[KNOWN], torch.from_numpy(found)[KNOWN])
    with pytest.raises(InputError, match="vectors of 3 items, but the schema counts 40"):
        vectors(rows[:3], 4)
    with pytest.raises(InputError, match=r"given none: call content\.give_vectors"):
        ItemContent("vectors", 4, ITEMS).fit(TRAIN)


def test_random_vectors_say_nothing_of_the_tokens():
    one, other = (content(tokens, width, "random") for tokens, width in
                  ((TOKENS, WIDTH), (with_marker(), WIDTH + 1)))
    assert torch.equal(one.vectors, other.vectors)
    torch.testing.assert_close(one.vectors.norm(dim=1), torch.ones(ITEMS))


def test_no_tokens_and_no_known_item_give_no_direction():
    empty = ItemLists.of(torch.zeros(0).long(), torch.zeros(0).long(), ITEMS, 1)
    assert not content(empty, 1).vectors.any()
    nobody = content()
    nobody.fit(ItemLists.of(torch.zeros(0).long(), torch.zeros(0).long(), 7, ITEMS))
    assert not nobody.vectors.any()
    assert not nobody.known.any()


def test_content_that_was_not_given_is_asked_for():
    found = ItemContent("columns", 4, ITEMS)
    with pytest.raises(InputError, match=r"was given none: call content\.give before the fit"):
        found.fit(TRAIN)
    with pytest.raises(InputError, match="tokens of 3 items, but the schema counts 40"):
        found.give(toys.random_lists(3, 2, 0.5), 2)
