"""Fits of faces that are found already, for tests of pipelines."""

from celeb_basis import Model, Recipe
from celeb_basis.fit.loop import fit_steps


def fit_identity(pipe, basis, faces, *, placeholder_token, instant_map=None, **fit):
    """Learn one person."""
    return Model.from_pipeline(pipe, basis=basis, instant_map=instant_map).fit(faces, placeholder_token, **fit)


def fit_identities(pipe, basis, people, tokens, recipe=Recipe(), **options):
    """Learn several people side by side."""
    *_, last = fit_steps(pipe, basis, people, tokens, recipe, **options)
    return last.identities
