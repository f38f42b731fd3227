"""The tab of what is kept: pictures from the disk, their archive, and records that bring settings back."""

import io
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from PIL import Image

from maquette.errors import MaquetteError
from maquette.foundation.reading.pictures import opened_picture
from maquette.studio.gallery import Session
from maquette.studio.page.draw import Draw
from maquette.studio.page.fields import error_line

NEWEST = 60  # pictures that are shown


class Keep:
    """The tab.

    Args:
        draw: where records are restored.
        tabs: of the page; `draw` has the id "draw".
    """

    def __init__(self, draw: Draw, tabs: gr.Tabs) -> None:
        self.draw, self.making, self.tabs, words = draw, draw.making, tabs, draw.words
        self.dropped = gr.File(label=words("drop"), file_types=["image"], type="binary", elem_id="drop", height=170)
        self.said = error_line()
        self.gallery = gr.Gallery(
            label=words("kept"), columns=6, object_fit="contain", format="png", interactive=False, elem_id="kept",
            elem_classes="crisp", height="auto", allow_preview=True, buttons=["download"],
        )  # fmt: skip
        refresh = gr.Button(words("refresh"), size="sm", elem_id="refresh")
        self.choice = gr.CheckboxGroup([], label=words("choose"), elem_id="choose")
        with gr.Row():
            zip_ = gr.Button(words("zip"), elem_id="zip")
            delete = gr.Button(words("delete"), elem_id="delete")
        self.archive = gr.File(label=words("archive"), interactive=False, visible=False, elem_id="archive")
        self.shown = [self.gallery, self.choice]
        refresh.click(self.kept, draw.key, self.shown, api_visibility="private")
        zip_.click(self._zip, [draw.key, self.choice], [self.archive, self.said], api_visibility="private")
        delete.click(self._delete, [draw.key, self.choice], [*self.shown, self.said], api_visibility="private")
        restored = [*draw.page.inputs.values(), draw.looking.said, self.said, tabs]
        self.dropped.upload(self._restore, self.dropped, restored, api_visibility="private")

    def kept(self, key: str | None) -> tuple[list[tuple[Image.Image, str]], Any]:
        """The session's newest pictures, and their names to choose from."""
        session = self.making.session(key)
        names = [entry.name for entry in session.pictures()[:NEWEST]] if session else []
        pictures = [(picture, name) for name in names if session and (picture := _picture(session, name))]
        return pictures, gr.update(choices=[name for _, name in pictures], value=[])

    def _zip(self, key: str | None, names: list[str]) -> tuple[Any, str]:
        session = self.making.session(key)
        try:
            content = session.zip(names) if session else b""
        except MaquetteError as error:
            return gr.skip(), f"⚠ {error}"
        path = save_bytes_to_cache(content, "maquette.zip", self.archive.GRADIO_CACHE)
        return gr.update(value=path, visible=True), ""

    def _delete(self, key: str | None, names: list[str]) -> tuple[Any, Any, str]:
        session = self.making.session(key)
        try:
            if session and names:
                session.delete(names)
        except MaquetteError as error:  # already deleted on another page
            return (*self.kept(key), f"⚠ {error}")
        return (*self.kept(key), "" if names else f"⚠ {self.draw.words('not_chosen')}")

    def _restore(self, content: bytes) -> dict[Any, Any]:
        try:
            fields = self.draw.restored(content)
        except MaquetteError as error:
            return {self.said: f"⚠ {error}"}
        said = self.draw.words("restored")
        return {**fields, self.draw.looking.said: said, self.said: said, self.tabs: gr.Tabs(selected="draw")}


def _picture(session: Session, name: str) -> Image.Image | None:
    """A kept picture with its record, which the browser's copy has too; None for one that was damaged."""
    try:
        with opened_picture(io.BytesIO(session.read(name)), name) as image:
            return image.copy()
    except MaquetteError:
        return None
