"""The sheets: pages on which a person decides row by row, with the keyboard.

The review sheet approves, edits or rejects rows; the blind sheet says which of two answers is
better without saying whose they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, cast

from finetuning.pages.blocks import page

_NO_TEXT: Final = frozenset(
    "role from type id tool_call_id tools schemaVersion preferenceLabel url data format".split()
)

SHEET_STYLE: Final = """<style>
#bar { position: sticky; top: 0; background: var(--ground); padding: .4rem 0; z-index: 1;
  border-bottom: 1px solid var(--line); }
#bar progress { width: 100%; height: .5rem; accent-color: var(--s0); }
.keys { display: flex; flex-wrap: wrap; gap: .4rem; margin: .5rem 0; }
button { font: inherit; color: var(--ink); background: var(--panel); padding: .5rem .8rem;
  border: 1px solid var(--line); border-radius: .4rem; min-height: 44px; cursor: pointer; }
button:focus-visible, textarea:focus-visible { outline: 3px solid var(--s0); }
button.good { border-color: var(--good); color: var(--good); background: var(--good-ground); }
button.bad { border-color: var(--bad); color: var(--bad); background: var(--bad-ground); }
button[aria-pressed=true] { box-shadow: 0 0 0 2px currentColor inset; font-weight: 600; }
kbd { border: 1px solid var(--line); border-radius: .2rem; padding: 0 .3rem; font-size: .85em;
  background: var(--ground); color: var(--soft); margin-left: .3rem; }
.field { border: 1px solid var(--line); border-radius: .4rem; margin: .6rem 0; }
.field b { display: block; background: var(--panel); color: var(--soft); padding: .2rem .6rem;
  font-weight: 500; font-size: .85rem; }
.field.answer b { color: var(--neutral); background: var(--neutral-ground); }
.field pre, .field textarea { font: inherit; margin: 0; padding: .5rem .6rem; width: 100%;
  white-space: pre-wrap; overflow-wrap: anywhere; border: 0; background: var(--ground);
  color: var(--ink); max-height: 60vh; overflow: auto; }
.field.edited { border-color: var(--warning); }
#why { margin: .6rem 0; padding-left: 1.2rem; } #why li { margin: .1rem 0; }
#place { color: var(--soft); font-size: .9rem; }
#state { font-weight: 600; } input[type=file] { max-width: 14rem; font: inherit; }
@media (max-width: 30rem) { kbd { display: none; } .keys button { flex: 1 1 28%; } }
</style>"""
"""Looks of every sheet on which a person decides."""

_REVIEW_BODY: Final = """<div id="bar"><span id="count" role="status"></span>
<progress id="done" value="0" max="1"></progress>
<div class="keys"><button id="approve" class="good">Approve<kbd>A</kbd></button>
<button id="edit">Edit<kbd>E</kbd></button>
<button id="reject" class="bad">Reject<kbd>R</kbd></button>
<button id="undo">Clear<kbd>U</kbd></button>
<button id="back">Back<kbd>K</kbd></button><button id="next">Next<kbd>J</kbd></button>
<button id="open">Next open<kbd>N</kbd></button>
<button id="save">Save file<kbd>S</kbd></button></div>
</div><p id="place"></p><ul id="why"></ul><div id="fields"></div>
<p><label>Go on from a saved file: <input type="file" id="load" accept=".jsonl"></label></p>
<noscript><p>This sheet needs JavaScript, which the browser has switched off.</p></noscript>"""

_REVIEW_SCRIPT: Final = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id), rows = data.rows, key = "review:" + data.sheet;
let at = 0, editing = false, made = {};
try { made = JSON.parse(localStorage.getItem(key)) || {}; } catch (e) { made = {}; }
const first = rows.findIndex(row => !made[row.digest]);
at = first < 0 ? 0 : first;
const keep = () => { try { localStorage.setItem(key, JSON.stringify(made)); } catch (e) {} };
const get = (value, path) => path.reduce((inner, step) => inner[step], value);
const put = (value, path, text) => { get(value, path.slice(0, -1))[path.at(-1)] = text; };
const copy = value => JSON.parse(JSON.stringify(value));
const add = (parent, tag, text, kind) => { const made = document.createElement(tag);
  made.textContent = text; if (kind) made.className = kind; parent.append(made); return made; };
function count() {
  const said = Object.values(made), n = word => said.filter(d => d.decision === word).length;
  $("count").textContent = `Row ${at + 1} of ${rows.length}: ${said.length} decided ` +
    `(${n("approve")} approved, ${n("edit")} edited, ${n("reject")} rejected)`;
  $("done").max = rows.length; $("done").value = said.length;
}
function show() {
  const row = rows[at], mine = made[row.digest], now = mine && mine.row ? mine.row : row.row;
  count();
  $("place").textContent = [row.source, row.line === null ? "" : "line " + row.line, row.part,
    row.label === null ? "" : "label " + row.label].filter(Boolean).join(", ");
  $("why").replaceChildren();
  for (const [code, text] of row.why) add($("why"), "li", text ? code + ": " + text : code);
  $("fields").replaceChildren();
  for (const [path, label] of row.fields) {
    const text = get(now, path), changed = text !== get(row.row, path);
    const box = add($("fields"), "div", "", "field" + (changed ? " edited" : "") +
      (/assistant|model|gpt|completion|chosen|output/i.test(label) ? " answer" : ""));
    add(box, "b", label + (changed ? " (edited)" : ""));
    const area = add(box, editing ? "textarea" : "pre", text);
    if (editing) { area.value = text; area.setAttribute("aria-label", label);
      area.rows = Math.min(20, 2 + Math.ceil(text.length / 70) + text.split("\\n").length); }
  }
  for (const word of ["approve", "edit", "reject"])
    $(word).setAttribute("aria-pressed", String(mine ? mine.decision === word : false));
  $("edit").firstChild.textContent = editing ? "Keep the edit" : "Edit";
}
function go(to) { at = Math.max(0, Math.min(rows.length - 1, to)); editing = false; show();
  scrollTo(0, 0); }
function open() { const n = rows.length;
  for (let step = 1; step <= n; step++) if (!made[rows[(at + step) % n].digest])
    return go((at + step) % n);
  go(at); }
function decide(word, changed) { const row = rows[at];
  made[row.digest] = { digest: row.digest, decision: word, source: row.source, line: row.line };
  if (changed) made[row.digest].row = changed;
  keep(); open(); }
function edit() {
  if (!editing) { editing = true; show(); const box = document.querySelector("textarea");
    if (box) box.focus(); return; }
  const row = rows[at], changed = copy(row.row), areas = document.querySelectorAll("textarea");
  row.fields.forEach(([path], i) => { const old = get(row.row, path), text = areas[i].value;
    put(changed, path, text === old.replace(/\\r\\n?/g, "\\n") ? old : text); });
  const same = JSON.stringify(changed) === JSON.stringify(row.row);
  editing = false; decide(same ? "approve" : "edit", same ? null : changed); }
function file() { const head = { format: data.format, sheet: data.sheet, target: data.target };
  return [head, ...rows.map(row => made[row.digest]).filter(Boolean)]
    .map(line => JSON.stringify(line) + "\\n").join(""); }
function save() { const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([file()], { type: "application/jsonl" }));
  link.download = "reviews.jsonl"; document.body.append(link); link.click(); link.remove(); }
async function load(event) { const known = new Set(rows.map(row => row.digest));
  for (const line of (await event.target.files[0].text()).split("\\n")) {
    try { const said = JSON.parse(line); if (known.has(said.digest)) made[said.digest] = said; }
    catch (e) { continue; } }
  keep(); show(); }
const does = { approve: () => decide("approve"), reject: () => decide("reject"), edit, save, open,
  back: () => go(at - 1), next: () => go(at + 1),
  undo: () => { delete made[rows[at].digest]; keep(); editing = false; show(); } };
for (const name of Object.keys(does)) $(name).onclick = does[name];
$("load").onchange = load;
const keys = { a: "approve", e: "edit", r: "reject", u: "undo", k: "back", j: "next", n: "open",
  s: "save", ArrowLeft: "back", ArrowRight: "next" };
document.onkeydown = event => {
  if (event.target.tagName === "TEXTAREA") {
    if (event.key === "Escape") { editing = false; show(); }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) edit();
    return; }
  if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
  event.preventDefault(); does[keys[event.key]](); };
show();
"""


def text_fields(value: Any, path: tuple[str | int, ...] = (), who: str = "") -> Iterator[Any]:
    """Yield ``[path, label]`` of every text of a row that a person can read and edit."""
    if isinstance(value, dict):
        row = cast("dict[str, Any]", value)
        speaker = row.get("role") or row.get("from") or row.get("preferenceLabel")
        for key, item in row.items():
            if key not in _NO_TEXT:
                yield from text_fields(item, (*path, key), str(speaker) if speaker else who)
    elif isinstance(value, list):
        for number, item in enumerate(cast("list[Any]", value)):
            yield from text_fields(item, (*path, number), who)
    elif isinstance(value, str):
        keys = [str(key) for key in path if isinstance(key, str)]
        plain = {"messages", "content", "conversations", "contents", "parts", "text", "value"}
        named = [key for key in keys if key not in plain | {"function"}]
        yield [list(path), " · ".join([*([who] if who else []), *named]) or keys[-1]]


def sheet_data(data: dict[str, Any]) -> str:
    """Return a fragment that holds data for a sheet's script, safe inside a page."""
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f'<script type="application/json" id="data">{text}</script>'


def review_sheet(data: dict[str, Any]) -> str:
    """Return a page on which a person approves, edits or rejects rows.

    The decisions stay in the browser until they are saved to ``reviews.jsonl``: a first line with
    format, sheet and target, then ``{digest, decision, source, line, row?}`` per decided row.

    Args:
        data: ``format``, ``sheet`` (a name for what was shown), ``target`` and ``rows``, each
            ``{digest, source, line, part, label, why: [[code, text]], row}``.
    """
    rows = [
        {**row, "fields": list(text_fields(row["row"]))}
        for row in cast("list[dict[str, Any]]", data["rows"])
    ]
    holder = sheet_data({**data, "rows": rows})
    subtitle = (
        f"{len(rows)} rows for {data['target']}, the riskiest first. Approve, edit or reject; "
        "in a text, Ctrl+Enter keeps the edit and Esc drops it."
    )
    sections = [SHEET_STYLE, _REVIEW_BODY if rows else "<p>There is no row to review.</p>", holder]
    return page("Review", sections, subtitle=subtitle, script=_REVIEW_SCRIPT if rows else "")


_BLIND_STYLE: Final = """<style>
.two { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; }
.two .field { margin: .2rem 0; } .field.chosen { border-color: var(--good); }
@media (max-width: 40rem) { .two { grid-template-columns: 1fr; } }
</style>"""

_BLIND_BODY: Final = """<div id="bar"><span id="count" role="status"></span>
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

_BLIND_SCRIPT: Final = """
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
    body = _BLIND_BODY if rows else "<p>Both models gave the same answers.</p>"
    parts = [SHEET_STYLE, _BLIND_STYLE, body, sheet_data(data)]
    script = _BLIND_SCRIPT if rows else ""
    return page("Which answer is better?", parts, subtitle=subtitle, script=script)
