"""The page in a browser over a real federation: its figures are the catalog's, it follows runs, anybody can use it.

One file, for files may run in processes of their own, and the federation takes longer to make than to look at.
"""

from __future__ import annotations

import json
import math
import os
import re
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Route, expect

from tests.integration.api.stack import DEADLINE, make_token
from tests.page.access import find_violations, load_axe, tab_to
from tests.page.conftest import Visit
from tests.page.pictures import PICTURES, furnish, take
from tests.page.reading import VIEWS, notices, number, read_table, rows, same
from tests.page.scene import GUARDED, HOSTILE, LIVE_ROUNDS, WORKSPACE
from tests.page.watching import heap, list_lags, start_watching

# `make watch` follows a longer run, and holds the page to a second.
WATCHED = "HELIOSDB_WATCHED_ROUNDS"
ROUNDS = int(os.environ.get(WATCHED, LIVE_ROUNDS))
LATEST = 1.0 if WATCHED in os.environ else 60.0
MOST_GROWTH = 1_000_000
LARGEST_PAGE = 150_000


def test_without_a_valid_token_there_is_the_login_and_nothing_else(visit: Visit) -> None:
    page = visit.page
    page.goto(visit.api.url + "/#/w/consortium")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert page.get_by_role("navigation").count() == 0
    page.get_by_label("Token").fill("hfl_" + "0" * 72)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text(
        "This token is not valid: it is mistyped, expired or revoked."
    )
    page.get_by_label("Token").fill(visit.api.tokens["rest_analyst"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("consortium")
    expect(page.get_by_text("rest_analyst")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("consortium")
    kept = page.evaluate(
        "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, document.body.innerHTML])"
    )
    assert visit.api.tokens["rest_analyst"] not in kept
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status").last).to_have_text("You are signed out.")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_a_token_that_is_revoked_ends_the_session_of_an_open_page(visit: Visit) -> None:
    visit.api.tokens["brief"] = make_token(visit.api.world, "rest_analyst")
    page = visit.enter("brief")
    rows(
        visit.api,
        "SELECT federated_revoke_token(token_id) FROM federated_tokens WHERE role = 'rest_analyst' ORDER BY created_at DESC LIMIT 1",
    )
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page.get_by_role("status").last).to_have_text("The session is over: sign in again.")
    expect(page.get_by_label("Token")).to_be_visible()


def test_workspaces_models_and_nodes_are_those_of_the_catalog(inside: Visit) -> None:
    page = inside.go("", "Workspaces")
    known = rows(inside.api, "SELECT workspace_name, status FROM federated_workspace_status ORDER BY 1")
    shown = read_table(page, "Workspaces")
    assert [(row["name"], row["status"].split(" ", 1)[1]) for row in shown] == [
        (row["workspace_name"], row["status"]) for row in known
    ]
    inside.go("w/consortium", "consortium")
    known = rows(
        inside.api,
        "SELECT node_name, rounds_participated, dataset_size, avg_round_time_seconds FROM federated_node_status WHERE workspace = 'consortium' ORDER BY 1",
    )
    shown = read_table(page, "Nodes")
    assert [row["name"] for row in shown] == [row["node_name"] for row in known]
    for one, other in zip(shown, known, strict=True):
        assert same(one["rounds"], other["rounds_participated"])
        assert same(one["rows"], other["dataset_size"])
        assert same(one["time of a round"], other["avg_round_time_seconds"])
    assert page.locator(".network .node").evaluate_all("nodes => nodes.map(node => node.dataset.node)") == [
        "a",
        "b",
        "c",
    ]
    assert [row["name"] for row in read_table(page, "Models")] == sorted(["risk", "live", "line", HOSTILE])


def test_a_name_that_is_markup_is_text_wherever_it_stands(inside: Visit) -> None:
    asked: list[str] = []
    page = inside.page
    page.on("request", lambda request: asked.append(request.url))
    inside.go("w/consortium", "consortium")
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(page.locator(".empty code").first).to_have_text(re.compile('START FEDERATED TRAINING "<img'))
    inside.go("w/consortium/audit", "Audit log of consortium")
    assert HOSTILE in [row["name"] for row in read_table(page, "Audit log, the latest first")]
    assert page.locator("img, #owned").count() == 0
    assert page.title() != "owned"
    assert {url.split("/")[2] for url in asked} == {inside.api.url.split("/")[2]}
    assert not [url for url in asked if url.endswith("/x")]


def test_a_model_is_shown_with_the_figures_of_its_report(inside: Visit) -> None:
    page = inside.go("w/consortium/m/risk", "risk")
    known = rows(inside.api, "SELECT metric, value FROM federated_evaluate('risk')")
    shown = {row["metric"]: row["value"] for row in read_table(page, "Figures of the current version")}
    assert {name.replace(" ", "_") for name in shown} == {row["metric"] for row in known}
    for row in known:
        assert same(shown[row["metric"].replace("_", " ")], row["value"]), row
    known = rows(inside.api, "SELECT * FROM federated_model_versions('risk') ORDER BY version")
    for one, other in zip(read_table(page, "Versions"), known, strict=True):
        assert same(one["± loss"], other["global_loss_std_error"])
        assert same(one["± accuracy"], other["global_accuracy_std_error"])
    known = rows(inside.api, "SELECT * FROM federated_coefficients('risk')")
    shown_rows = read_table(page, "Coefficients with intervals of 95 %")
    assert [row["term"] for row in shown_rows] == [row["term"] for row in known]
    for one, other in zip(shown_rows, known, strict=True):
        assert (
            same(one["estimate"], other["estimate"])
            and same(one["from"], other["conf_low"])
            and same(one["to"], other["conf_high"])
        )
    assert page.locator(".strip .interval").count() == 2
    for row in rows(inside.api, "SELECT * FROM federated_confusion_matrix('risk')"):
        [line] = [
            line
            for line in read_table(page, "Held-out rows: their classes down, what is predicted across")
            if line["actual"] == row["actual"]
        ]
        assert number(line[f"predicted {row['predicted']}"]) == row["count"]
    known = rows(inside.api, "SELECT * FROM federated_feature_importance('risk')")
    shown_rows = read_table(page, "By how much the loss grows where a feature is shuffled")
    for one, other in zip(shown_rows, known, strict=True):
        assert one["feature"] == other["feature"] and same(one["importance"], other["importance"])


def test_the_drawn_curves_of_a_report_are_its_points(inside: Visit) -> None:
    page = inside.go("w/consortium/m/risk", "risk")
    for each in page.get_by_text("The figures as a table").all():
        each.click()
    known = rows(inside.api, "SELECT * FROM federated_roc_curve('risk')")
    shown = read_table(page, "Points of the ROC curve")
    assert all(same(one["fpr"], other["fpr"]) and same(one["tpr"], other["tpr"])
               for one, other in zip(shown, known, strict=True))  # fmt: skip
    assert [row["threshold"] for row in shown].count("∞") == 1
    assert (shown[0]["threshold"], known[0]["threshold"]) == ("∞", math.inf)
    drawn = page.locator(".joined").get_attribute("points") or ""
    points = [tuple(float(part) for part in point.split(",")) for point in drawn.split(" ")]
    assert len(points) == len(known)
    (left, bottom), (right, top) = points[0], points[-1]
    for (x, y), row in zip(points, known, strict=True):
        assert (x - left) / (right - left) == pytest.approx(row["fpr"])
        assert (bottom - y) / (bottom - top) == pytest.approx(row["tpr"])
    known = rows(inside.api, "SELECT * FROM federated_calibration('risk')")
    for one, other in zip(read_table(page, "Calibration"), known, strict=True):
        assert same(one["predicted"], other["predicted"]) and same(one["observed"], other["observed"])
    assert page.locator(".plane circle.mark").count() == len(
        [row for row in known if row["predicted"] is not None]
    )


def test_what_a_report_has_not_says_why(inside: Visit) -> None:
    page = inside.go("w/guarded/m/cautious", "cautious")
    expect(page.get_by_text("have no standard errors: the estimates hold the noise").first).to_be_visible()
    estimates = read_table(page, "Coefficients with intervals of 95 %")
    assert {one["standard error"] for one in estimates} == {"unknown"}


def test_a_budget_is_shown_with_history_and_the_catalogs_forecast(inside: Visit) -> None:
    page = inside.go(f"w/{GUARDED}/budget", "Privacy budget of guarded")
    [now] = rows(inside.api, "SELECT * FROM federated_privacy_budget_status WHERE workspace_name = 'guarded'")
    gauge = page.get_by_role("meter")
    assert float(gauge.get_attribute("aria-valuenow") or "nan") == pytest.approx(now["consumed_epsilon"])
    assert float(gauge.get_attribute("aria-valuemax") or "nan") == now["total_budget_epsilon"]
    facts = dict(
        zip(page.locator("dt").all_text_contents(), page.locator("dd").all_text_contents(), strict=True)
    )
    assert same(facts["ε left"], now["remaining_epsilon"])
    assert same(
        facts["Rounds that the rest lasts for, as the last ones went"], now["estimated_remaining_rounds"]
    )
    known = rows(
        inside.api,
        "SELECT * FROM federated_privacy_history WHERE workspace_name = 'guarded' ORDER BY round_number DESC",
    )
    shown = read_table(page, "Charged rounds, the latest first")
    assert [number(row["round"]) for row in shown] == [row["round_number"] for row in known]
    assert all(
        same(one["ε until then"], other["cumulative_epsilon"])
        for one, other in zip(shown, known, strict=True)
    )
    expect(page.locator(".plot")).to_have_attribute("data-points", str(len(known) + 1))
    inside.go(f"w/{WORKSPACE}/budget", "Privacy budget of consortium")
    expect(page.get_by_text("This workspace has no privacy budget")).to_be_visible()


def test_a_budget_of_more_rounds_than_are_drawn_says_so(inside: Visit) -> None:
    page = inside.page
    charge = {"timestamp": "2026-01-01T00:00:00Z", "model_name": "cautious", "round_number": 1, "cumulative_epsilon": 1.0,
              "epsilon_per_round": 0.1, "noise_multiplier": 1.0, "clipping_threshold": 1.0}  # fmt: skip
    page.route("**/budget/history?*", lambda route: route.fulfill(json=[charge] * 1000))
    inside.go(f"w/{GUARDED}/budget", "Privacy budget of guarded")
    expect(page.get_by_role("group", name="Spent, by the latest 1,000 charged rounds")).to_be_visible()
    assert len(read_table(page, "The latest 100 charged rounds, the latest first")) == 100


def test_what_is_said_of_figures_stands_above_them_and_a_number_has_no_accuracy(inside: Visit) -> None:
    inside.expected |= {409}
    [run] = rows(inside.api, "SELECT run_id FROM federated_runs WHERE model_name = 'line'")
    page = inside.go("w/consortium/m/line", "line")
    said = notices(inside.api, "SELECT * FROM federated_coefficients('line')")
    assert said
    expect(page.locator(".notice")).to_have_text(said)
    assert {"R²", "± R²"} <= read_table(page, "Versions")[0].keys()
    inside.go(f"runs/{run['run_id']}", re.compile("of line$"))
    expect(page.get_by_role("group", name="R²")).to_be_visible()
    assert {"R²", "± R²"} <= read_table(page, "The last 20 rounds")[0].keys()
    assert page.get_by_text(re.compile("accuracy", re.IGNORECASE)).count() == 0


def test_lists_of_a_workspace_are_those_of_the_catalog(inside: Visit) -> None:
    page = inside.go("w/consortium/quality", "Data quality in consortium")
    known = rows(inside.api, "SELECT * FROM federated_data_quality_check('risk')")
    shown = read_table(page, "What round 0 found for risk")
    for row in known:
        for feature, statistics in row["feature_statistics"].items():
            [line] = [
                line
                for line in shown
                if (line["node"], line["feature"]) == (row["node_name"] or "all nodes", feature)
            ]
            assert same(line["mean"], statistics["mean"]) and same(line["scale"], statistics["scale"])
            assert number(line["missing"]) == row["missing_values"][feature]
    inside.go("w/consortium/alerts", "Alerts of consortium")
    expect(page.get_by_role("row", name=re.compile("few_nodes.*raised"))).to_be_visible()
    inside.go("w/consortium/audit", "Audit log of consortium")
    known = rows(
        inside.api,
        "SELECT chain_position, action, object_name, hash FROM federated_audit_log WHERE workspace = 'consortium' ORDER BY recorded_at DESC, chain_position DESC LIMIT 100",
    )
    shown = read_table(page, "Audit log, the latest first")
    assert [(number(row["entry"]), row["action"], row["name"]) for row in shown] == [
        (row["chain_position"], row["action"], row["object_name"]) for row in known
    ]
    assert all(other["hash"].startswith(one["hash"]) for one, other in zip(shown, known, strict=True))
    inside.go("w/consortium/erasures", "Erasures in consortium")
    expect(page.get_by_text("DELETE FROM FEDERATED TRAINING")).to_be_visible()
    inside.go("experiments", "Experiments")
    page.get_by_role("link", name="halves").click()
    known = rows(inside.api, "SELECT * FROM federated_experiment('halves')")
    shown = read_table(page, "Arms")
    assert [(row["arm"], number(row["share"]), number(row["calls"])) for row in shown] == [
        (row["arm"], row["share"], row["calls"]) for row in known
    ]


def test_the_sql_box_does_what_the_role_may_and_points_at_errors(visit: Visit) -> None:
    visit.expected |= {400, 403, 422}
    visit.enter("rest_analyst")
    page = visit.go("sql", "SQL")
    box = page.get_by_label("Statement")
    run = page.get_by_role("button", name="Run")
    box.fill("SELECT current_user AS me, NULL AS nothing, 'ä' || repeat('x', 3) AS text")
    run.click()
    expect(page.locator(".answer tbody tr")).to_have_text("rest_analystNULLäxxx")
    box.fill("SELECT 'ä😀',\n  nix")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".position")).to_have_text("  nix\n  ^ here")
    assert (
        page.evaluate("() => document.activeElement.selectionStart")
        == len("SELECT 'ä😀',\n  ".encode("utf-16-le")) // 2
    )
    box.fill("SELECT 1 FROM federated.api_token")
    run.click()
    expect(page.get_by_role("alert")).to_contain_text("42501")


def test_a_run_is_drawn_while_it_goes_and_leaks_nothing(inside: Visit) -> None:
    page = inside.page
    session = page.context.new_cdp_session(page)
    run = start_watching(inside.api, page, ROUNDS)
    page.wait_for_function(
        "least => Number(document.querySelector('.plot')?.dataset.last) >= least", arg=ROUNDS // 10
    )
    early = heap(session)
    expect(page.get_by_text("This run is over.")).to_be_visible(timeout=1000 * (DEADLINE + ROUNDS))
    expect(page.locator(".plot").first).to_have_attribute("data-last", str(ROUNDS))
    expect(
        page.get_by_role("term").filter(has_text="Ended").locator("xpath=following-sibling::dd")
    ).not_to_have_text("not yet")
    grown = heap(session) - early
    closed = rows(
        inside.api,
        "SELECT round_number, extract(epoch FROM recorded_at)::float8 AS at FROM federated.event WHERE run_id = %s AND kind = 'round.closed' AND round_number > 0 ORDER BY 1",
        run,
    )
    lags = list_lags(page, closed)
    print(
        f"\n{ROUNDS} rounds: {max(lags):.2f} s behind at most, {sum(lags) / len(lags):.2f} s on the mean, heap grown by {grown} bytes of {early}"
    )
    assert max(lags) <= LATEST
    assert grown < MOST_GROWTH


def test_a_run_that_is_over_is_shown_with_every_round(inside: Visit) -> None:
    [run] = rows(
        inside.api,
        "SELECT run_id, run FROM federated_runs WHERE model_name = 'live' AND status IN ('completed', 'converged') ORDER BY run DESC LIMIT 1",
    )
    page = inside.go(f"runs/{run['run_id']}", f"Run {run['run']} of live")
    known = rows(
        inside.api,
        "SELECT * FROM federated.round WHERE run_id = %s AND round_number > 0 ORDER BY round_number",
        run["run_id"],
    )
    for each in page.get_by_text("The figures as a table").all():
        each.click()
    for curve in ("loss", "accuracy"):
        shown = read_table(page, curve.capitalize())
        assert [number(row["round"]) for row in shown] == [row["round_number"] for row in known]
        for one, other in zip(shown, known, strict=True):
            assert same(one[curve], other[f"global_{curve}"])
            assert same(one[f"± {curve}"], other[f"global_{curve}_std_error"])
            assert other[f"global_{curve}_std_error"] is not None
    matrix = page.get_by_role("table", name=re.compile("Participation"))
    expect(matrix.locator("tbody tr")).to_have_count(3)
    taken = rows(
        inside.api,
        "SELECT count(DISTINCT (round_number, node_id)) AS count FROM federated.participation WHERE run_id = %s AND outcome = 'received'",
        run["run_id"],
    )[0]["count"]
    if ROUNDS < 40:
        expect(matrix.locator("td[data-state=received]")).to_have_count(taken)
    page.get_by_role("link", name="live").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("live")


def test_a_server_that_is_away_is_asked_again_after_the_time_that_it_says(inside: Visit) -> None:
    inside.expected |= {503}
    page = inside.page
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        problem = {
            "title": "Service Unavailable",
            "status": 503,
            "detail": "The database does not answer now.",
        }
        route.fulfill(
            status=503,
            headers={"Retry-After": "1"},
            content_type="application/problem+json",
            body=json.dumps(problem),
        )

    page.route("**/api/v1/federated/runs?*", refuse, times=2)
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page.locator(".waiting")).to_have_text("The database does not answer now. Trying again in 1 s.")
    expect(page.get_by_role("table", name="The latest runs")).to_be_visible()
    expect(page.locator(".waiting")).to_have_text("")
    assert len(refused) == 2


def test_the_keyboard_alone_leads_everywhere(visit: Visit) -> None:
    page = visit.page
    page.goto(visit.api.url + "/")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.insert_text(visit.api.tokens["rest_admin"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Workspaces")
    for name, title in (
        ("Runs", "Runs"),
        ("SQL", "SQL"),
        ("Workspaces", "Workspaces"),
        ("consortium", "consortium"),
        ("Audit log", "Audit log of consortium"),
    ):
        expect(page.get_by_role("link", name=name, exact=True).first).to_be_visible()
        tab_to(page, name)
        assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        expect(page.get_by_role("heading", level=1)).to_be_focused()
    tab_to(page, "Skip to the content", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    tab_to(page, "details")
    page.keyboard.press("Enter")
    expect(page.locator("details[open] pre")).to_be_visible()


# What a browser's window is like, and what of accessibility is looked at in it.
WINDOWS: dict[str, tuple[str, int, dict[str, object]]] = {
    "light": ("light", 1200, {}),
    "phone and dark": ("dark", 360, {"runOnly": ["color-contrast", "scrollable-region-focusable"]}),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_every_view_is_accessible_and_none_is_wider_than_its_window(inside: Visit, window: str) -> None:
    theme, width, options = WINDOWS[window]
    page = inside.page
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 740})
    [run] = rows(
        inside.api, "SELECT run_id, run FROM federated_runs WHERE model_name = 'risk' ORDER BY run LIMIT 1"
    )
    load_axe(page)
    for place, title in {**VIEWS, f"runs/{run['run_id']}": f"Run {run['run']} of risk"}.items():
        inside.go(place, title)
        assert find_violations(page, options) == [], title
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, title
        assert page.get_by_role("main").count() == page.get_by_role("banner").count() == 1
        headings = page.evaluate("() => [...document.querySelectorAll('h1,h2,h3')].map(one => one.tagName)")
        levels = [int(one[1]) for one in headings]
        assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))


def test_dark_colours_are_the_systems_until_the_reader_chooses(inside: Visit) -> None:
    page = inside.page

    def ground() -> int:
        text = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", text)[:3])

    assert ground() > 600
    page.emulate_media(color_scheme="dark")
    assert ground() < 150
    page.get_by_role("button", name="Light colours").click()
    assert ground() > 600
    page.reload()
    expect(page.get_by_role("button", name="Dark colours")).to_be_visible()
    assert ground() > 600


def test_everything_that_a_browser_fetches_is_small_and_from_this_server(visit: Visit) -> None:
    fetched: set[str] = set()
    visit.page.on("request", lambda request: fetched.add(request.url))
    visit.enter()
    assert all(url.startswith(visit.api.url + "/") for url in fetched)
    files = [url for url in fetched if "/api/" not in url]
    assert {Path(url).suffix for url in files} >= {".js", ".css"}
    with httpx.Client(timeout=DEADLINE, headers={"Accept-Encoding": "gzip"}) as client:
        answers = [client.get(url) for url in files]
    # As they travel: the length that the server says, of what it has packed.
    sizes = {str(answer.url): int(answer.headers["content-length"]) for answer in answers}
    print(f"\n{sum(sizes.values())} bytes are fetched")
    assert sum(sizes.values()) <= LARGEST_PAGE, sizes
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy


def test_pictures_are_taken_of_what_the_page_shows(inside: Visit, tmp_path: Path) -> None:
    folder = Path(os.environ.get("HELIOSDB_PICTURES", tmp_path))
    page = inside.page
    for name, (place, title, how) in PICTURES.items():
        furnish(page, **how)
        inside.go(place, title)
        take(page, folder / f"{name}.png")
    furnish(page)
    [run] = rows(
        inside.api, "SELECT run_id FROM federated_runs WHERE model_name = 'live' ORDER BY run DESC LIMIT 1"
    )
    page.goto(f"{inside.api.url}/#/runs/{run['run_id']}")
    expect(page.locator(".uplot")).to_have_count(2)
    expect(page.get_by_role("table", name=re.compile("Participation, rounds"))).to_be_visible()
    take(page, folder / "run.png")


def test_a_node_that_is_lost_is_seen_on_the_open_page(inside: Visit) -> None:
    page = inside.go("w/consortium", "consortium")
    lost = page.locator(".network .node[data-node=c]")
    expect(lost).to_have_attribute("data-state", "active")
    inside.api.world.sites[2].kill()
    expect(lost).not_to_have_attribute("data-state", "active")
    state = lost.get_attribute("data-state") or ""
    expect(lost.locator(".word")).to_have_text(state)
    expect(page.get_by_role("row", name=re.compile(f"^c .*{state}"))).to_be_visible()
