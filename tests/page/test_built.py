"""What is committed of the page is what its sources give; what of it needs no browser is tried without one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from heliosdb.api.notices import write_notices

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "src" / "heliosdb" / "api" / "static"

POINTS = """
import { Points } from %s;
const points = new Points(40);
for (let x = 1; x <= 5000; x += 1) {
    points.put({ x, y: [x / 2, null] });
    const all = points.all;
    if (all.length > 40 || all[0].x !== 1 || all.at(-1).x !== x) throw new Error(`at ${x}: ${all.length}`);
    if (all.some((point, i) => i > 0 && point.x <= all[i - 1].x)) throw new Error(`order at ${x}`);
}
points.put({ x: 5000, y: [7, 8] });
if (points.last.y[1] !== 8) throw new Error("a point at an x that is there takes its place");
console.log(points.columns(2).map((column) => column.length).join());
"""
ADDRESSES = """
import { match, place, route } from %s;
const view = async () => { throw new Error(); };
const routes = [route("", "a", view), route("w/:workspace/m/:model", "b", view)];
for (const name of ["risk", "a/b", "%%", "..", "<b>", "ä 😀", "#/w"]) {
    const found = match(routes, place("w", name, "m", name));
    if (found?.names.workspace !== name || found.names.model !== name) throw new Error(name);
}
if (match(routes, "#/") === null || match(routes, "") === null) throw new Error("the first view");
if (match(routes, "#/w/%%E0%%A4%%A/m/x") !== null || match(routes, "#/w/x") !== null) throw new Error("no view");
console.log("ok");
"""
GAUGE = """
import { percent } from %s;
const share = [[0, 40], [1e-3, 40], [0.4, 40], [20, 40], [39.99, 40], [40, 40], [0.1 + 0.7, 0.8], [41, 40]];
console.log(share.map(([used, whole]) => percent(used, whole)).join());
"""
NOTICES = """
import { noticesOf } from %s;
console.log(JSON.stringify(noticesOf(process.env.NOTICES)));
"""


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_module(tmp_path: Path, source: str, test: str) -> str:
    """Run a test of one module of the page under Node."""
    built = tmp_path / "module.mjs"
    esbuild = ROOT / "web" / "node_modules" / ".bin" / "esbuild"
    subprocess.run(
        [
            esbuild,
            ROOT / "web" / "src" / source,
            "--bundle",
            "--format=esm",
            f"--outfile={built}",
            "--log-level=error",
        ],
        check=True,
    )
    script = tmp_path / "test.mjs"
    script.write_text(test % f'"{built.as_uri()}"')
    return subprocess.run(["node", script], check=True, capture_output=True, text=True).stdout.strip()


def test_the_committed_files_are_what_the_sources_give(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts" / "page.sh", tmp_path / "static"], check=True)
    built = read_folder(tmp_path / "static")
    committed = read_folder(STATIC)
    assert {name: committed.get(name) for name in built} == built, (
        "run scripts/page.sh and commit what it writes"
    )
    bundles = [name for name in committed if name.startswith(("assets/main-", "assets/icon-"))]
    assert set(bundles) <= set(built)
    assert b"Leon Sorokin" in committed["assets/licences.txt"]


def test_a_curve_keeps_a_bounded_number_of_points(tmp_path: Path) -> None:
    lengths = {int(one) for one in run_module(tmp_path, "core/points.ts", POINTS).split(",")}
    assert len(lengths) == 1
    assert lengths.pop() <= 40


def test_a_gauge_says_all_where_nothing_is_left_and_only_there(tmp_path: Path) -> None:
    said = run_module(tmp_path, "parts/gauge.ts", GAUGE)
    assert said == "0 %,< 1 %,1 %,50 %,99 %,100 %,100 %,100 %"


def test_notices_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["plain, with a comma", 'ä "quoted" 100 %\n😀']
    monkeypatch.setenv("NOTICES", write_notices(texts))
    assert json.loads(run_module(tmp_path, "core/api.ts", NOTICES)) == texts


def test_an_address_holds_any_name(tmp_path: Path) -> None:
    assert run_module(tmp_path, "core/router.ts", ADDRESSES) == "ok"
