"""The picture of bytes over time."""

from __future__ import annotations

import base64
import re
from types import SimpleNamespace
from xml.etree import ElementTree

from IPython.core.formatters import DisplayFormatter

from chunkup_jupyter import upload
from chunkup_jupyter.ui.curves import Curve, draw


def svg_of(drawing):
    """Return a drawing's image as XML."""
    return ElementTree.fromstring(drawing._repr_svg_())


def curve_of(*points):
    curve = Curve()
    curve.points = list(points)
    return curve


def test_an_upload_tells_its_curve(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * 300_000)
    curve = Curve()

    upload(tmp_path / "a.txt", "openai:user_data", sandbox=True, state=None, listeners=[curve])

    assert curve.points[0] == (0.0, 0)
    assert max(sent for _, sent in curve.points) == 300_000
    assert curve.points == sorted(curve.points, key=lambda point: point[0])


def test_a_picture_has_a_line_for_each_name_inside_its_frame():
    one, other = curve_of((0, 0), (2, 20_000_000)), curve_of((0, 0), (4, 20_000_000))

    image = svg_of(draw({"one": one, "<other>": other}))

    lines = [e.get("points") for e in image.iter("{http://www.w3.org/2000/svg}polyline")]
    ends = [tuple(map(float, line.split()[-1].split(","))) for line in lines]
    assert ends[0][0] < ends[1][0] <= 640
    assert ends[0][1] == ends[1][1] >= 0
    assert "<other> 4.0 s" in "".join(image.itertext())


def test_the_words_beside_a_picture_say_the_seconds():
    drawing = draw({"ours": curve_of((0, 0), (1.25, 5)), '"theirs"': curve_of((0, 0), (2, 5))})

    assert repr(drawing) == 'ours 1.2 s, "theirs" 2.0 s'
    title = svg_of(drawing).find("{http://www.w3.org/2000/svg}title")
    assert title.text == 'ours 1.2 s, "theirs" 2.0 s'


def test_a_saved_notebook_holds_the_picture_as_html_and_as_an_image():
    """JupyterLab shows no SVG of a notebook that is not trusted; other pages take no HTML."""
    drawing = draw({"<ours>": curve_of((0, 0), (1.25, 5))})

    data, _ = DisplayFormatter().format(drawing)

    assert set(data) == {"text/html", "image/svg+xml", "text/plain"}
    assert 'alt="&lt;ours&gt; 1.2 s"' in data["text/html"]
    code = re.search(r"base64,([^\"]+)", data["text/html"])[1]
    assert base64.b64decode(code).decode() == data["image/svg+xml"]


def test_nothing_to_draw_is_no_error():
    svg_of(draw({}))
    svg_of(draw({"nothing": Curve()}))


def test_a_curve_hears_what_is_sent():
    curve = Curve()
    curve(None, SimpleNamespace(sent=7))

    assert curve.points[-1][1] == 7
