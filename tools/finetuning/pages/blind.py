"""The blind sheet: a page on which a person says which of two answers is better."""

from __future__ import annotations

from typing import Any, Final

from finetuning.pages import SHEET_STYLE, sheet_data
from finetuning.pages.blocks import page

_STYLE: Final = """<style>
.two { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; }
.two .field { margin: .2rem 0; } .field.chosen { border-color: var(--good); }
@media (max-width: 40rem) { .two { grid-template-columns: 1fr; } }
</style>"""

_BODY: Final = """<div id="bar"><span id="count" role="status"></span>
<progress id="done" value="0" max="1"></progress>
<div class="keys"><button id="first">First is better<kbd>1</kbd></button>
<button id="tie">Equally good<kbd>0</kbd></button>
<button id="second">Second is better<kbd>2</kbd></button>
<button id="undo">Clear<kbd>U</kbd></button>
<button id="back">Back<kbd>K</kbd></button><button id="next">Next<kbd>J</kbd></button>
<button id="open">Next open<kbd>N</kbd></button>
<button id="save">Save file<kbd>S</kbd></button></div></div>
<div id="asked"></div><div class="two" id="answers"></div>
<p><label>Go on from a saved file: <input type="file" id="load" accept=".jsonl"></label></p>
<noscript><p>This sheet needs JavaScript, which the browser has switched off.</p></noscript>"""

_SCRIPT: Final = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id), rows = data.rows, key = "blind:" + data.sheet;
let at = 0, made = {};
try { made = JSON.parse(localStorage.getItem(key)) || {}; } catch (e) { made = {}; }
const begin = rows.findIndex(row => !made[row.id]); at = begin < 0 ? 0 : begin;
const keep = () => { try { localStorage.setItem(key, JSON.stringify(made)); } catch (e) {} };
function box(parent, label, text, kind) { const field = document.createElement("div");
  field.className = "field " + kind; const b = document.createElement("b"),
    pre = document.createElement("pre"); b.textContent = label; pre.textContent = text;
  field.append(b, pre); parent.append(field); }
function show() { const row = rows[at], said = made[row.id];
  $("count").textContent = `Row ${at + 1} of ${rows.length}: ${Object.keys(made).length} decided`;
  $("done").max = rows.length; $("done").value = Object.keys(made).length;
  $("asked").replaceChildren(); $("answers").replaceChildren();
  box($("asked"), "question", row.question, "");
  if (row.reference) box($("asked"), "reference", row.reference, "");
  ["first", "second"].forEach((name, n) => box($("answers"), name, row.answers[n],
    "answer" + (said === name ? " chosen" : "")));
  for (const name of ["first", "tie", "second"])
    $(name).setAttribute("aria-pressed", String(said === name)); }
function go(to) { at = Math.max(0, Math.min(rows.length - 1, to)); show(); scrollTo(0, 0); }
function open() { const n = rows.length; for (let step = 1; step <= n; step++)
  if (!made[rows[(at + step) % n].id]) return go((at + step) % n); go(at); }
function choose(name) { made[rows[at].id] = name; keep(); open(); }
function file() { return [{ format: data.format, sheet: data.sheet },
  ...rows.filter(row => made[row.id]).map(row => ({ id: row.id, choice: made[row.id] }))]
  .map(line => JSON.stringify(line) + "\\n").join(""); }
function save() { const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([file()], { type: "application/jsonl" }));
  link.download = "reviews.jsonl"; document.body.append(link); link.click(); link.remove(); }
async function load(event) { const known = new Set(rows.map(row => row.id));
  for (const line of (await event.target.files[0].text()).split("\\n")) {
    try { const said = JSON.parse(line);
      if (known.has(said.id)) made[said.id] = said.choice; } catch (e) { continue; } }
  keep(); show(); }
const does = { first: () => choose("first"), second: () => choose("second"), save, open,
  tie: () => choose("tie"), back: () => go(at - 1), next: () => go(at + 1),
  undo: () => { delete made[rows[at].id]; keep(); show(); } };
for (const name of Object.keys(does)) $(name).onclick = does[name];
$("load").onchange = load;
const keys = { 1: "first", 2: "second", 0: "tie", u: "undo", k: "back", j: "next", n: "open",
  s: "save", ArrowLeft: "back", ArrowRight: "next" };
document.onkeydown = event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
  event.preventDefault(); does[keys[event.key]](); };
show();
"""


def blind_sheet(data: dict[str, Any]) -> str:
    """Return a page on which a person chooses between two answers, row by row.

    The choices stay in the browser until they are saved to ``reviews.jsonl``: a first line with
    format and sheet, then ``{id, choice}`` per decided row, choice ``first``, ``second``, ``tie``.

    Args:
        data: ``format``, ``sheet`` (a name for what is shown) and ``rows``, each
            ``{id, question, reference, answers: [first, second]}``.
    """
    rows = data["rows"]
    subtitle = f"{len(rows)} rows. Choose the better answer; which model wrote it is hidden."
    body = _BODY if rows else "<p>Both models gave the same answers.</p>"
    parts = [SHEET_STYLE, _STYLE, body, sheet_data(data)]
    script = _SCRIPT if rows else ""
    return page("Which answer is better?", parts, subtitle=subtitle, script=script)
