"""What is on the page, and which of its parts calls what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..limits import MAX_PAGE_SIDE
from . import theme
from .jobs import PRIVATE, errors_in_one_line, picture_of, pixel_of, run_as_job, spelling, where
from .people_tab import lay_out_model, lay_out_people, sliders_of
from .placing import lay_out_boxes, read_boxes, written
from .session import MAX_RESUMED, Session
from .studio import Sampling, Studio, default_sampling, describe
from .visitors import Visitors

MODELS_OWN = "the model's own"
NO_PHOTO = "Add a photo of one person."
# What a drawing asks of the model, in the order of `default_sampling`.
NUMBERS: dict[str, dict[str, Any]] = {
    "Steps": {"precision": 0},
    "Guidance": {"step": 0.5},
    "Width": {"precision": 0, "step": 64, "maximum": MAX_PAGE_SIDE},
    "Height": {"precision": 0, "step": 64, "maximum": MAX_PAGE_SIDE},
}


def build(studio: Studio, visitors: Visitors) -> gr.Blocks:
    """Return the page, not served yet."""
    with gr.Blocks(title="celeb-basis", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        session = gr.State(Session(studio), time_to_live=24 * 3600, delete_callback=Session.end)
        title = gr.HTML(theme.title(studio.first.name, describe(studio.first)))
        with gr.Tabs() as tabs:
            with gr.Tab("Learn", id="learn"):
                learnt, finding, photo, examples, fit_steps, draw_them = _learn(session, visitors, studio)
            with gr.Tab("Draw", id="draw"):
                chips, prompt, sampling, who, history = _draw(session, visitors, default_sampling(studio.first))
            with gr.Tab("People", id="people"):
                changed, faces, files, dropdowns, both, traits = lay_out_people(session, visitors, studio.first)
                dropdowns.append(who)
                elsewhere = gr.HTML(theme.in_programs({}))
            with gr.Tab("Model", id="model"):
                chosen = lay_out_model(session, studio)

        def everybody(
            first: str | None, second: str | None, who: str | None, placed: str | None, session: Session
        ) -> tuple[Any, ...]:
            tokens = list(session.people)
            if not {first, second} <= set(tokens):
                first, second = (*tokens[-2:], None, None)[:2]
            chosen = (first, second, who if who in tokens else None, placed if placed in tokens else (*tokens, None)[0])
            return theme.chips(tokens), *(gr.Dropdown(choices=tokens, value=each) for each in chosen)

        def portraits(session: Session) -> tuple[list[tuple[Path, str]], list[str]]:
            people = session.people.items()
            return [(person.portrait, token) for token, person in people], [str(p.file) for _, p in people]

        # What a browser keeps of its visitor: the name of their folder, which nobody else knows.
        ticket = gr.BrowserState(None, storage_key="celeb-basis", secret="celeb-basis")
        back = page.load(lambda ticket, session: session.resume(ticket), [ticket, session], ticket, **PRIVATE)
        back.success(_history, session, history, **PRIVATE)
        for event in (learnt, back, *changed):
            event.success(everybody, [*dropdowns, session], [chips, *dropdowns], **PRIVATE)
            as_api = {"api_name": "people", "api_visibility": "public"} if event is learnt else {}
            event.success(portraits, session, [faces, files], **PRIVATE | as_api)
            event.success(lambda session: theme.in_programs(session.in_programs()), session, elsewhere, **PRIVATE)

        def to_draw(text: str) -> tuple[gr.Tabs, str]:
            return gr.Tabs(selected="draw"), text

        def draw_last(session: Session) -> tuple[gr.Tabs, str]:
            return to_draw(f"a photo of {[*session.people, 'a person'][-1]} on the beach")

        def draw_both(first: str | None, second: str | None, session: Session) -> tuple[gr.Tabs, str]:
            with errors_in_one_line():
                session.pair(first, second)
            return to_draw(f"a photo of {first} and {second} on the beach")

        def model_facts(photo: str | None, session: Session) -> tuple[Any, ...]:
            if session.presented is session.model:
                return (gr.skip(),) * len(facts)
            session.presented = session.model
            model, photos = session.model, session.studio.examples(session.model)
            head = theme.title(model.name, describe(model))
            shown = gr.Gallery(photos, visible=photo is None and bool(photos))
            return head, shown, model.default_train_steps, *default_sampling(model), *sliders_of(model)

        draw_them.click(draw_last, session, [tabs, prompt], **PRIVATE)
        # Errors are shown of what goes through the queue.
        both.click(draw_both, [*dropdowns[:2], session], [tabs, prompt], **PRIVATE | {"queue": True})
        facts = [title, examples, fit_steps, *sampling, *traits]
        back.success(model_facts, [photo, session], facts, **PRIVATE)
        chosen.success(model_facts, [photo, session], facts, **PRIVATE)
        finding.success(model_facts, [photo, session], facts, **PRIVATE)
    return page


def _learn(
    session: gr.State, visitors: Visitors, studio: Studio
) -> tuple[Any, Any, gr.Image, gr.Gallery, gr.Number, gr.Button]:
    """Lay out photo, face, name and fit.

    Returns the fit, the finding of faces, the photo, the example photos, the steps, and the way to Draw.
    """
    with gr.Row(equal_height=False, elem_classes="sides"):
        with gr.Column(min_width=300, elem_classes="what"):
            with gr.Row():
                photo = gr.Image(
                    label="Photo", type="filepath", height=260, min_width=140, buttons=[], elem_classes="photo"
                )
                faces = theme.pictures("The face in it", "faces", min_width=140, height=260)
            # Which of several faces, counted from 1: what a click on one sets, and programs say.
            which = gr.Number(None, label="Which face", precision=0, minimum=1, maximum=1000, visible="hidden")
            examples = theme.pictures(
                "No photo at hand? Take one of these", "tiny", value=studio.examples(studio.first)
            )
        with gr.Column(min_width=300, elem_classes="out"):
            with gr.Row():
                name = gr.Textbox(
                    "", label="Name", placeholder="Annika", info="Zoë Łuk becomes <zoe-luk>.", scale=2, min_width=150
                )
                steps = gr.Number(
                    studio.first.default_train_steps, label="Steps", info="0 is instant.", precision=0, minimum=0,
                    maximum=400, min_width=100,
                )  # fmt: skip
            with gr.Row():
                start = gr.Button("Fit", variant="primary", min_width=120)
                stop = gr.Button("Cancel", interactive=False, min_width=120)
            line = gr.HTML(theme.status(NO_PHOTO))
            strip = theme.pictures("How the identity forms", "five")
            with gr.Row():
                draw_them = gr.Button("Draw pictures →", interactive=False, min_width=120)
                download = gr.DownloadButton("Download identity", interactive=False, min_width=120)
        with gr.Column(min_width=300, elem_classes="how"):
            with gr.Accordion("More photos of the same person", open=False):
                more = gr.File([], show_label=False, file_count="multiple", file_types=["image"], height=140)
    photo.preprocess = more.preprocess = where

    def find(photo: str | None, session: Session) -> tuple[Any, None, str]:
        if photo is None:
            return [], None, theme.status(NO_PHOTO)
        with errors_in_one_line():
            found = session.find_faces(photo)
        said = "Found the face. Name the person, then fit."
        if len(found) > 1:
            said = f"{len(found)} faces were found: click the person, here or in the photo."
        return [face.crop for face in found], None, theme.status(said)

    def pick(event: gr.SelectData, session: Session) -> tuple[int | None, str]:
        number = picture_of(event) + 1
        if not 1 <= number <= len(session.faces) or len(session.faces) == 1:
            return None, gr.skip()
        return number, theme.status(f"Face {number} of {len(session.faces)}. Name the person, then fit.")

    def point(event: gr.SelectData, session: Session) -> tuple[Any, ...]:
        number = session.face_at(*pixel_of(event))
        if number is None or len(session.faces) == 1:
            return gr.skip(), gr.skip(), gr.skip()
        said = theme.status(f"Face {number} of {len(session.faces)}. Name the person, then fit.")
        return number, gr.Gallery(selected_index=number - 1), said

    def fit(
        photo: str | None,
        name: str,
        steps: int | None,
        which: int | None,
        more: list[str] | None,
        session: Session,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        shown: list[tuple[Path, str]] = []
        with errors_in_one_line():
            check = visitors.watch(request.session_hash)
            begun = "instant" if session.model.instant_map else "mean person"
            progress = session.fit(photo, name, steps, more_photos=more or (), which=which, check=check)
            for at in progress:
                if at.preview:
                    shown.append((at.preview, {0: begun, 1: "1 step"}.get(at.step, f"{at.step} steps")))
                left = f", {theme.duration(at.seconds_left)} left" if at.seconds_left is not None else ""
                alike = f", likeness {at.likeness:.2f}" if at.likeness is not None else ""
                text = f"Step {at.step} of {at.steps}{alike}{left}"
                if at.person:
                    token = at.person.identity.placeholder_token
                    text = f"{token} can be named in prompts now. {spelling(name, token)}"
                yield (
                    theme.status(text, at.step / max(at.steps, 1), done=at.person is not None),
                    shown if at.preview else gr.skip(),
                    str(at.person.file) if at.person else gr.skip(),
                )

    def offer(photo: str | None, session: Session) -> gr.Gallery:
        return gr.Gallery(visible=photo is None and bool(session.studio.examples(session.model)))

    photo.change(offer, [photo, session], examples, **PRIVATE)  # room for what comes out, on a phone
    found = [faces, which, line]
    finding = photo.change(
        find, [photo, session], found, api_name="find_face", show_progress="minimal", show_progress_on=faces
    )
    finding.failure(lambda: ([], None, theme.status("Choose another photo.")), None, found, **PRIVATE)
    faces.select(pick, session, [which, line], **PRIVATE)
    photo.select(point, session, [which, faces, line], **PRIVATE)
    examples.select(_take_example, session, photo, **PRIVATE | {"queue": True})
    learnt = run_as_job(
        [start.click, name.submit], stop, line, fit,
        [photo, name, steps, which, more, session], [line, strip, download], api_name="fit",
    )  # fmt: skip
    go_on = [draw_them, download]
    learnt.success(lambda: [gr.Button(interactive=True), gr.DownloadButton(interactive=True)], None, go_on, **PRIVATE)
    return learnt, finding, photo, examples, steps, draw_them


def _take_example(event: gr.SelectData, session: Session) -> str:
    with errors_in_one_line():
        return str(session.save_example(picture_of(event)))


def _draw(
    session: gr.State, visitors: Visitors, sampling: Sampling
) -> tuple[gr.HTML, gr.Textbox, list[gr.Number], gr.Dropdown, gr.Gallery]:
    """Lay out prompt and pictures; return the names to click, the prompt, its numbers, who has a box, the history."""
    with gr.Row(equal_height=False, elem_classes="sides"):
        with gr.Column(min_width=300, elem_classes="what"):
            prompt = gr.Textbox(
                "", label="Prompt", lines=2, elem_id="prompt", placeholder="a photo of <annika> on the beach",
                render=False,
            )  # fmt: skip
            chips = gr.HTML(theme.chips([]), js_on_load=theme.INSERT)
            prompt.render()
            with gr.Row():
                start = gr.Button("Draw", variant="primary", min_width=120)
                stop = gr.Button("Cancel", interactive=False, min_width=120)
            line = gr.HTML(theme.status("Click a name to put it in the prompt."))
        with gr.Column(min_width=300, elem_classes="out"):
            gallery = theme.pictures(
                "Pictures", "large", allow_preview=True, buttons=["download", "download_all", "fullscreen"]
            )
            again = gr.Button("Again with the settings of the chosen picture", interactive=False)
            with gr.Accordion("History", open=False):
                history = theme.pictures("Click a picture to choose it", "small")
        with gr.Column(min_width=300, elem_classes="how"):
            with gr.Row():
                count = gr.Slider(1, 8, 2, step=1, precision=0, label="Pictures", min_width=140)
                strength = gr.Slider(
                    0, 1.25, 1, step=0.05, label="Strength", info="0: the mean person. 1: as learnt.", min_width=140
                )
            with gr.Row():
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**53, min_width=140)
                keep = gr.Checkbox(label="Keep this seed", min_width=140)
            apart = gr.Checkbox(label="Keep people apart, each on the side that the prompt says", container=False)
            with gr.Accordion("More settings", open=False):
                negative = gr.Textbox("", label="Negative prompt", placeholder="what the pictures should not show")
                with gr.Row():
                    numbers = [
                        gr.Number(value, label=label, minimum=0, min_width=120, placeholder=MODELS_OWN, **more)
                        for label, value, more in zip(NUMBERS, sampling, NUMBERS.values(), strict=True)
                    ]
            with gr.Accordion("Where people stand", open=False):
                boxes, who, show_boxes = lay_out_boxes(session, *numbers[2:])

    def draw(
        prompt: str,
        count: int,
        steps: int | None,
        guidance: float | None,
        seed: int | None,
        apart: bool,
        strength: float,
        negative: str,
        boxes: str,
        width: int | None,
        height: int | None,
        session: Session,
        request: gr.Request,
    ) -> Iterator[tuple[str, Any]]:
        pictures: list[tuple[Path, str]] = []
        with errors_in_one_line():
            drawn = session.draw(
                prompt, count, steps or None, guidance, seed or 0, apart=apart, strength=strength,
                negative_prompt=negative, boxes=read_boxes(boxes), width=width, height=height,
                check=visitors.watch(request.session_hash),
            )  # fmt: skip
            for drawing in drawn:
                pictures.append((drawing.file, drawing.caption))
                text = f"{len(pictures)} of {count} pictures"
                if done := len(pictures) == count:
                    text += f", saved in {session.folder.name}" if session.studio.keep else ""
                    text += _absence(session, prompt)
                yield theme.status(text, len(pictures) / count, done=done), list(pictures)

    steps, guidance, width, height = numbers
    drawn = run_as_job(
        [start.click, prompt.submit], stop, line, draw,
        [prompt, count, steps, guidance, seed, apart, strength, negative, boxes, width, height, session],
        [line, gallery], api_name="draw",
        seed=seed, keep_seed=keep,
    )  # fmt: skip
    for event in (drawn.success, drawn.failure):
        event(_history, session, history, **PRIVATE)
    drawn.success(lambda: gr.Button(interactive=True), None, again, **PRIVATE)

    def choose(event: gr.SelectData, session: Session) -> gr.Button:
        session.choose(session.shown, picture_of(event))
        return gr.Button(interactive=True)

    def choose_earlier(event: gr.SelectData, session: Session) -> gr.Button:
        session.choose(session.history, picture_of(event))
        return gr.Button(interactive=True)

    def settings(session: Session) -> tuple[Any, ...]:
        with errors_in_one_line():
            how = session.settings()
        strengths = [*how.strengths.values(), 1.0]
        asked = how.num_inference_steps, how.guidance_scale, how.width, how.height, how.seed
        return how.prompt, *asked, True, False, strengths[0], how.negative_prompt or "", written(how.regions)

    gallery.select(choose, session, again, **PRIVATE)
    history.select(choose_earlier, session, again, **PRIVATE)
    again.click(
        settings,
        session,
        [prompt, *numbers, seed, keep, apart, strength, negative, boxes],
        **PRIVATE | {"queue": True},
    ).success(**show_boxes, **PRIVATE)
    return chips, prompt, numbers, who, history


def _history(session: Session) -> list[tuple[Path, str]]:
    """Return the pictures that a visitor drew, the newest first."""
    return [(file, file.name[:3]) for file in session.history[:MAX_RESUMED]]


def _absence(session: Session, prompt: str) -> str:
    """Return what to say where there are people and a prompt names none of them."""
    if not session.people or session.named(prompt):
        return ""
    return f". None of your people is in them, as the prompt names nobody: write {[*session.people][-1]} for a person."
