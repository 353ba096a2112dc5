"""Fits of faces that are found already, for tests of pipelines."""

from celeb_basis import Recipe
from celeb_basis.fit.loop import fit_steps


def fit_identity(
    pipe, basis, faces, *, placeholder_token, method="celeb-basis", instant_map=None, progress=None, **recipe
):
    """Learn one person."""
    steps = fit_steps(
        pipe, basis, [faces], [placeholder_token], Recipe(**recipe), method=method, instant_map=instant_map
    )
    for step in steps:
        if progress is not None:
            progress(step)
    return step.identities[0]


def fit_identities(pipe, basis, people, tokens, recipe=None, **options):
    """Learn several people side by side."""
    *_, last = fit_steps(pipe, basis, people, tokens, recipe or Recipe(), **options)
    return last.identities
